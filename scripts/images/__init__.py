"""`make images`: the images of docker/, each built, run, called from outside and stopped."""

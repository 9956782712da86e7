"""Ways to bring a tensor to bytes and back, each as its users write it.

`catalogue` says which there are and needs none of their libraries. A file with `WAYS` has the code of a few, and is
imported by `worker` alone, in an interpreter that has what it needs; `workers` is the side that asks. Serialised is what
is ready to be handed to a socket; deserialised is an array, made of the bytes as they lie in memory when they have come.
"""

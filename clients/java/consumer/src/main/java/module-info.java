/** Uses the client as a module. */
module org.graphpipe.consumer {
  requires org.graphpipe;
}

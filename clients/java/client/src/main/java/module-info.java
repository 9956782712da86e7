/** A client for GraphPipe, a protocol for tensors; it needs the JDK and nothing else. */
module org.graphpipe {
  // For the exceptions of calls that took too long, and nothing more.
  requires transitive java.net.http;

  exports org.graphpipe;
}

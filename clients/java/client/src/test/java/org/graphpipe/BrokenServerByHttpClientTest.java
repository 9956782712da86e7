package org.graphpipe;

/**
 * Servers that do not behave, by {@code java.net.http}: the way of TLS and proxies, with the same
 * promises.
 */
class BrokenServerByHttpClientTest extends BrokenServerTest {
  @Override
  Client.Builder builder(String url) {
    return super.builder(url).httpClient(HttpClientTransport.newHttpClient(null));
  }
}

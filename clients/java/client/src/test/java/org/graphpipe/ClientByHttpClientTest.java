package org.graphpipe;

/**
 * Calls to servers that behave, by {@code java.net.http}: the way of TLS and proxies, with the same
 * promises.
 */
class ClientByHttpClientTest extends ClientTest {
  @Override
  Client.Builder builder(String url) {
    return super.builder(url).httpClient(HttpClientTransport.newHttpClient(null));
  }
}

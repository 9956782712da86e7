package org.graphpipe;

import java.io.IOException;
import java.io.UncheckedIOException;

/** Calls to servers that behave, by https. */
class ClientByTlsTest extends ClientTest {
  @Override
  Client.Builder builder(String url) {
    Target plain = Target.parse(url);
    try {
      int port = TestTls.front(TestTls.LOCALHOST, plain.port());
      return Client.builder("https://localhost:" + port + plain.path())
          .sslContext(TestTls.LOCALHOST);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}

package org.graphpipe.benchmarks;

import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** A certificate of this run, for localhost, and the trust in it. */
record Tls(SSLContext context) {
  private static final char[] PASSWORD = "changeit".toCharArray();

  Tls() throws Exception {
    this(make());
  }

  private static SSLContext make() throws Exception {
    Path folder = Files.createTempDirectory("graphpipe-tls");
    Path store = folder.resolve("keys.p12");
    String keytool = Path.of(System.getProperty("java.home"), "bin", "keytool").toString();
    String options =
        " -genkeypair -alias key -keyalg EC -dname CN=test -ext SAN=dns:localhost -validity 2"
            + " -storetype PKCS12 -storepass changeit -keystore ";
    int status = new ProcessBuilder((keytool + options + store).split(" ")).start().waitFor();
    if (status != 0) {
      throw new IllegalStateException("keytool ended with " + status);
    }
    KeyStore keys = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(store)) {
      keys.load(in, PASSWORD);
    }
    Files.delete(store);
    Files.delete(folder);
    KeyManagerFactory own = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    own.init(keys, PASSWORD);
    KeyStore trusted = KeyStore.getInstance("PKCS12");
    trusted.load(null, null);
    trusted.setCertificateEntry("key", keys.getCertificate("key"));
    TrustManagerFactory others =
        TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    others.init(trusted);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(own.getKeyManagers(), others.getTrustManagers(), null);
    return context;
  }
}

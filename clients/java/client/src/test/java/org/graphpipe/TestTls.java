package org.graphpipe;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.List;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/** Certificates of this run, and a front that speaks TLS for a server that does not. */
final class TestTls {
  private static final char[] PASSWORD = "changeit".toCharArray();

  /** Of a server whose name is localhost, trusted by the same context. */
  static final SSLContext LOCALHOST = context("SAN=dns:localhost,ip:127.0.0.1");

  private TestTls() {}

  /** A fresh key and certificate, and the trust in it. */
  static SSLContext context(String names) {
    try {
      Path folder = Files.createTempDirectory("graphpipe-tls");
      Path store = folder.resolve("keys.p12");
      Process keytool =
          new ProcessBuilder(
                  List.of(
                      Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
                      "-genkeypair",
                      "-alias",
                      "key",
                      "-keyalg",
                      "EC",
                      "-dname",
                      "CN=test",
                      "-ext",
                      names,
                      "-validity",
                      "2",
                      "-storetype",
                      "PKCS12",
                      "-keystore",
                      store.toString(),
                      "-storepass",
                      "changeit"))
              .redirectErrorStream(true)
              .start();
      String said = new String(keytool.getInputStream().readAllBytes());
      if (!keytool.waitFor(60, TimeUnit.SECONDS) || keytool.exitValue() != 0) {
        throw new IllegalStateException("keytool: " + said);
      }
      KeyStore keys = KeyStore.getInstance("PKCS12");
      try (InputStream in = Files.newInputStream(store)) {
        keys.load(in, PASSWORD);
      }
      Files.delete(store);
      Files.delete(folder);
      KeyStore trusted = KeyStore.getInstance("PKCS12");
      trusted.load(null, null);
      trusted.setCertificateEntry("key", keys.getCertificate("key"));
      KeyManagerFactory own =
          KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
      own.init(keys, PASSWORD);
      TrustManagerFactory others =
          TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
      others.init(trusted);
      SSLContext context = SSLContext.getInstance("TLS");
      context.init(own.getKeyManagers(), others.getTrustManagers(), null);
      return context;
    } catch (Exception e) {
      throw new IllegalStateException("no certificates for the tests", e);
    }
  }

  /** Listens with TLS and passes all bytes on to a plain port, and ends with the test's process. */
  static int front(SSLContext context, int plainPort) throws IOException {
    SSLServerSocket listener =
        (SSLServerSocket)
            context
                .getServerSocketFactory()
                .createServerSocket(0, 1000, InetAddress.getLoopbackAddress());
    daemon(
        () -> {
          while (true) {
            SSLSocket secure = (SSLSocket) listener.accept();
            secure.setTcpNoDelay(true);
            daemon(
                () -> {
                  try (secure;
                      Socket plain = new Socket(InetAddress.getLoopbackAddress(), plainPort)) {
                    plain.setTcpNoDelay(true);
                    daemon(() -> pass(plain, secure));
                    pass(secure, plain);
                  }
                });
          }
        });
    return listener.getLocalPort();
  }

  private static void pass(Socket from, Socket to) throws IOException {
    InputStream in = from.getInputStream();
    OutputStream out = to.getOutputStream();
    byte[] buffer = new byte[64 * 1024];
    try {
      for (int bytes = in.read(buffer); bytes >= 0; bytes = in.read(buffer)) {
        out.write(buffer, 0, bytes);
      }
    } finally {
      if (to instanceof SSLSocket) {
        to.shutdownOutput();
      }
    }
  }

  /** Work that may fail when its socket is closed. */
  @FunctionalInterface
  interface Work {
    void run() throws Exception;
  }

  static Thread daemon(Work work) {
    Thread thread =
        new Thread(
            () -> {
              try {
                work.run();
              } catch (Exception e) {
                // the test is over, or the peer gone
              }
            });
    thread.setDaemon(true);
    thread.start();
    return thread;
  }
}

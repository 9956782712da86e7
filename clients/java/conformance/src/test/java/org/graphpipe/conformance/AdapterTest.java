package org.graphpipe.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.StringReader;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import java.util.Optional;
import org.graphpipe.InferRequest;
import org.graphpipe.InferResponse;
import org.graphpipe.Metadata;
import org.graphpipe.Reader;
import org.graphpipe.Writer;
import org.junit.jupiter.api.Test;

class AdapterTest {
  private static final String REQUEST =
      """
      {"type":"infer","config":"\u00e9","input_names":["a"],"inputs":[\
      {"type":"uint64","shape":["1"],"data":"//////////8="},\
      {"type":"string","shape":["2"],"strings":["AP8=",""]}],"output_names":["y",""]}""";
  private static final String RESPONSE =
      """
      {"outputs":[{"type":"float32","shape":[],"data":"AACAPw=="}],\
      "errors":[{"code":"-9223372036854775808","message":"m"}]}""";
  private static final String METADATA =
      """
      {"name":"n","version":"v","server":"s","description":"d","inputs":[\
      {"name":"x","description":"","shape":["-1","9007199254740993"],"type":"float16"}],"outputs":[]}""";

  @Test
  void valuesSurviveEncodingAndDecoding() throws Exception {
    String[][] messages = {
      {"request", REQUEST},
      {"request", "{\"type\":\"metadata\"}"},
      {"infer_response", RESPONSE},
      {"metadata_response", METADATA}
    };
    for (String[] message : messages) {
      JsonObject encoded =
          ask("{'id':'e','op':'encode','message':'%s','value':%s}", message[0], message[1]);
      assertTrue(encoded.get("ok").getAsBoolean(), encoded.toString());
      JsonObject decoded =
          ask(
              "{'id':'d','op':'decode','message':'%s','bytes':'%s'}",
              message[0], encoded.get("bytes").getAsString());
      assertEquals("d", decoded.get("id").getAsString());
      assertEquals(message[1], decoded.get("value").toString());
    }
  }

  @Test
  void whatCannotBeEncodedIsInvalid() throws Exception {
    for (String tensor :
        List.of(
            "{'type':'float32','shape':['2'],'data':'AACAPw=='}",
            "{'type':'float32','shape':['-1'],'data':''}",
            "{'type':'float32','shape':['0','4611686018427387904'],'data':''}",
            "{'type':'float32','shape':['36893488147419103232'],'data':''}",
            "{'type':'bool','shape':[],'data':'AA=='}",
            "{'type':'null','shape':[],'data':''}",
            "{'type':'string','shape':['1'],'strings':[]}",
            "{'type':'string','shape':['0'],'strings':[],'data':'AA=='}",
            "{'type':'uint8','shape':['0'],'strings':[''],'data':''}")) {
      JsonObject result =
          ask(
              "{'id':'e','op':'encode','message':'request','value':%s}",
              "{'type':'infer','config':'','input_names':[],'inputs':["
                  + tensor
                  + "],'output_names':[]}");
      assertFalse(result.get("ok").getAsBoolean(), tensor);
      assertEquals("invalid", result.get("error").getAsString());
    }
  }

  @Test
  void garbageIsMalformedAndANonsenseLineTheEnd() throws Exception {
    for (String kind : List.of("request", "infer_response", "metadata_response")) {
      JsonObject result = ask("{'id':'d','op':'decode','message':'%s','bytes':'AQID'}", kind);
      assertEquals("{\"id\":\"d\",\"ok\":false,\"error\":\"malformed\"}", result.toString());
    }
    byte[] ofLater = Writer.metadataRequest().toByteBuffer().array();
    ofLater[ofLater.length - 1 - indexFromEnd(ofLater, (byte) 2)] = 3; // its kind
    JsonObject later =
        ask(
            "{'id':'d','op':'decode','message':'request','bytes':'%s'}",
            Base64.getEncoder().encodeToString(ofLater));
    assertEquals("{\"id\":\"d\",\"ok\":false,\"error\":\"unsupported\"}", later.toString());
    for (String line :
        List.of("nonsense", "{}", "{'id':'x','op':'dance'}", "{'id':'x','op':'decode'}")) {
      assertThrows(IllegalStateException.class, () -> ask(line));
    }
  }

  @Test
  void callsTellTheServersAnswerFromNone() throws Exception {
    HttpServer server =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.createContext(
        "/",
        exchange -> {
          byte[] body = exchange.getRequestBody().readAllBytes();
          Optional<InferRequest> request = Reader.readRequest(ByteBuffer.wrap(body));
          byte[] answer =
              (request.isEmpty()
                      ? Writer.write(new Metadata("n", "", "", "", List.of(), List.of()))
                      : Writer.write(new InferResponse(request.get().inputs(), List.of())))
                  .toByteBuffer()
                  .array();
          exchange.sendResponseHeaders(200, answer.length);
          exchange.getResponseBody().write(answer);
          exchange.close();
        });
    server.createContext(
        "/no",
        exchange -> {
          exchange.sendResponseHeaders(404, 2);
          exchange.getResponseBody().write("no".getBytes(StandardCharsets.US_ASCII));
          exchange.close();
        });
    server.start();
    String url = "http://127.0.0.1:" + server.getAddress().getPort();
    try {
      JsonObject good =
          ask("{'id':'c','op':'call','url':'%s','timeout_ms':5000,'value':%s}", url, REQUEST);
      assertEquals(2, good.getAsJsonObject("value").getAsJsonArray("outputs").size());
      JsonObject metadata = ask("{'id':'m','op':'metadata','url':'%s'}", url);
      assertEquals("n", metadata.getAsJsonObject("value").get("name").getAsString());
      JsonObject no = ask("{'id':'n','op':'metadata','url':'%s/no'}", url);
      assertEquals(
          "{\"id\":\"n\",\"ok\":false,\"error\":\"server\",\"message\":\"no\",\"code\":\"3\","
              + "\"status\":404}",
          no.toString());
      String loops = "{'id':'l','op':'loops','url':'%s','values':[%s,%s],'calls':20}";
      JsonObject looped = ask(loops, url, REQUEST, REQUEST);
      assertEquals(
          good.get("value"), looped.getAsJsonArray("values").get(1), "the same as for one call");
      JsonObject refused = ask(loops, url + "/no", REQUEST, REQUEST);
      assertEquals(404, refused.get("status").getAsInt());
    } finally {
      server.stop(0);
    }
    JsonObject none = ask("{'id':'c','op':'call','url':'%s','value':%s}", url, REQUEST);
    assertEquals("no_answer", none.get("error").getAsString());
    JsonObject unix = ask("{'id':'c','op':'metadata','url':'unix:/x'}");
    assertEquals("no_answer", unix.get("error").getAsString());
  }

  private static int indexFromEnd(byte[] bytes, byte wanted) {
    int index = 0;
    while (bytes[bytes.length - 1 - index] != wanted) {
      index++;
    }
    return index;
  }

  private static JsonObject ask(String line, Object... parts) throws IOException {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    String text = line.contains("%s") ? line.formatted(parts) : line;
    Adapter.run(
        new StringReader(text.replace('\'', '"') + "\n"),
        new PrintStream(out, true, StandardCharsets.UTF_8));
    return JsonParser.parseString(out.toString(StandardCharsets.UTF_8)).getAsJsonObject();
  }
}

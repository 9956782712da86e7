package org.graphpipe;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;

/** Answers that say no: our servers' messages, other servers' texts, proxies' pages. */
final class Refusal {
  private static final int MESSAGE_CHARS_MAX = 4096;

  private Refusal() {}

  /** What an answer with a status other than 200 says. */
  static GraphPipeException of(Answer answer) {
    AnswerHead head = answer.head();
    String type = head.contentType().toLowerCase(Locale.ROOT).split(";", 2)[0].strip();
    if (type.equals(RequestHead.ERROR_TYPE)) {
      try {
        List<InferResponse.Failure> errors = Reader.readInferResponse(answer.body()).errors();
        if (!errors.isEmpty()) {
          return of(errors.get(0), head);
        }
      } catch (MalformedMessageException e) {
        return ofStatus(head, "the server says no, and why cannot be read: " + e.getMessage());
      }
    }
    String text = text(answer.body());
    if (type.equals("text/html") || isPage(text)) {
      return ofStatus(head, ofProxy(head));
    }
    return ofStatus(
        head,
        text.isEmpty() ? "the server says no, without a word: status " + head.status() : text);
  }

  static GraphPipeException of(InferResponse.Failure failure, AnswerHead head) {
    return new GraphPipeException(
        failure.code(), head.status(), failure.message(), head.retryAfter());
  }

  private static GraphPipeException ofStatus(AnswerHead head, String message) {
    long code = GraphPipeException.codeOfStatus(head.status());
    return new GraphPipeException(code, head.status(), message, head.retryAfter());
  }

  /** The words of a server that speaks no FlatBuffers here. */
  private static String text(ByteBuffer body) {
    String text = StandardCharsets.UTF_8.decode(body).toString().strip();
    return text.length() <= MESSAGE_CHARS_MAX ? text : text.substring(0, MESSAGE_CHARS_MAX) + "...";
  }

  private static boolean isPage(String text) {
    String start = text.substring(0, Math.min(text.length(), 20)).toLowerCase(Locale.ROOT);
    return start.startsWith("<!doctype html") || start.startsWith("<html");
  }

  /** Says in words what a page of HTML stands for: no server of this protocol sends one. */
  private static String ofProxy(AnswerHead head) {
    String who = head.server().split("/", 2)[0].strip();
    if (head.status() == 413 && who.equals("nginx")) {
      return "nginx answered 413: is its client_max_body_size too small?";
    }
    String named = who.isEmpty() ? "something in between" : who;
    return (named + " answered " + head.status() + " " + head.reason()).strip();
  }
}

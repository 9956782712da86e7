package org.graphpipe;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/**
 * Breaks good messages at random, and wants nothing but {@link MalformedMessageException}. Runs for
 * {@code -Dgraphpipe.fuzz.seconds} (3), from {@code -Dgraphpipe.fuzz.seed} (1).
 */
class FuzzTest {
  private static final int[] NASTY = {
    0, 1, 2, 3, 4, 7, 8, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, -1, -4, -8
  };

  @Test
  void brokenMessagesGiveMalformedMessageExceptionAndNothingElse() {
    long seconds = Long.getLong("graphpipe.fuzz.seconds", 3);
    long seed = Long.getLong("graphpipe.fuzz.seed", 1);
    List<byte[]> seeds = Samples.encoded();
    GoldenTest.messages().forEach(seeds::add);
    long end = System.nanoTime() + seconds * 1_000_000_000;
    long round = 0;
    while (System.nanoTime() < end) {
      // Each round has its own seed, so that the one that fails can be run alone.
      Random random = new Random(seed + round);
      byte[] bytes = broken(seeds.get(random.nextInt(seeds.size())), random);
      try {
        ReaderTest.assertOnlyMalformed(bytes);
      } catch (Throwable e) {
        throw new AssertionError("-Dgraphpipe.fuzz.seed=" + (seed + round), e);
      }
      round++;
    }
    assertTrue(round > 100, "only " + round + " rounds");
  }

  private static byte[] broken(byte[] seed, Random random) {
    ByteBuffer bytes = ByteBuffer.wrap(seed.clone()).order(ByteOrder.LITTLE_ENDIAN);
    // Tables lie in the first bytes, so most of the breaking happens there.
    int reach = random.nextInt(4) == 0 ? bytes.limit() : Math.min(bytes.limit(), 256);
    for (int changes = 1 + random.nextInt(6); changes > 0; changes--) {
      int at = random.nextInt(reach);
      switch (random.nextInt(4)) {
        case 0 -> bytes.put(at, (byte) random.nextInt());
        case 1 -> bytes.put(at, (byte) (bytes.get(at) ^ 1 << random.nextInt(8)));
        case 2 -> {
          if (bytes.limit() >= 4) {
            int place = Math.min(at & ~3, (bytes.limit() - 4) & ~3);
            bytes.putInt(place, NASTY[random.nextInt(NASTY.length)]);
          }
        }
        default -> {
          if (bytes.limit() >= 4) {
            int place = Math.min(at & ~3, (bytes.limit() - 4) & ~3);
            bytes.putInt(place, random.nextInt(bytes.limit()));
          }
        }
      }
    }
    int length = random.nextInt(8) == 0 ? random.nextInt(bytes.limit()) : bytes.limit();
    byte[] result = new byte[length];
    bytes.get(0, result);
    return result;
  }
}

package org.graphpipe;

/** What no message may exceed, whoever wrote it: the table of limits in docs/wire.md. */
final class Limits {
  /** Dims of a tensor. */
  static final int DIMS_MAX = 32;

  /** Tensors, names, errors, described inputs or outputs: each vector of them. */
  static final int ENTRIES_MAX = 4096;

  /** Bytes of names, config, descriptions and error messages together. */
  static final int TEXT_BYTES_MAX = 1 << 24;

  /** Strings of all tensors of a message together. */
  static final int STRINGS_MAX = 1 << 24;

  private Limits() {}
}

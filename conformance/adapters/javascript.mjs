// The conformance adapter in JavaScript, which decodes and does nothing else: Node 20 and no dependency. It was written from
// docs/new-client.md and docs/wire.md alone, to see whether they are enough.
import { createInterface } from "node:readline";
import process from "node:process";

const TYPES = [
  "null", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
  "string",
];
const SIZES = [0, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8, 4]; // of a string, its offset
const STRING = 12;
const UINT8 = 1;

// The limits of docs/wire.md.
const MESSAGE_MAX = 2 ** 31 - 1;
const ENTRIES_MAX = 4096;
const DIMS_MAX = 32;
const TEXT_MAX = 2 ** 24;
const STRINGS_MAX = 2 ** 24;

class Malformed extends Error {}
class Unsupported extends Error {}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** One message being read. Nothing is followed before it is checked. */
class Reader {
  constructor(bytes) {
    if (bytes.length < 8 || bytes.length > MESSAGE_MAX) throw new Malformed("size of the message");
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.unspent = bytes.length;
    this.text = TEXT_MAX;
    this.strings = STRINGS_MAX;
  }

  root() {
    return this.table(this.follow(0));
  }

  /** Where the offset at a position leads: at least 4 bytes before the end. */
  follow(at) {
    if (at % 4 || at + 4 > this.bytes.length) throw new Malformed("place of an offset");
    const offset = this.view.getUint32(at, true);
    if (offset === 0 || at + offset + 4 > this.bytes.length) throw new Malformed("an offset that leads outside");
    return at + offset;
  }

  table(at) {
    const size = this.bytes.length;
    if (at % 4 || at + 4 > size) throw new Malformed("place of a table");
    const vtable = at - this.view.getInt32(at, true);
    if (vtable % 2 || vtable < 0 || vtable + 4 > size) throw new Malformed("place of a vtable");
    const length = this.view.getUint16(vtable, true);
    const inline = this.view.getUint16(vtable + 2, true);
    if (length < 4 || length % 2 || vtable + length > size) throw new Malformed("size of a vtable");
    if (inline < 4 || at + inline > size) throw new Malformed("size of a table");
    return new Table(this, at, inline, vtable, (length - 4) / 2);
  }

  /** First element and count of the vector at a position that `follow` gave. */
  vector(at, itemSize) {
    const count = this.view.getUint32(at, true);
    if (at + 4 + count * itemSize > this.bytes.length) throw new Malformed("length of a vector");
    this.unspent -= count * itemSize;
    if (this.unspent < 0) throw new Malformed("more in vectors than the message has");
    return [at + 4, count];
  }

  run(at) {
    const [start, count] = this.vector(at, 1);
    return this.bytes.subarray(start, start + count);
  }

  word(at) {
    const run = this.run(at);
    this.text -= run.length;
    if (this.text < 0) throw new Malformed("too much text");
    try {
      return utf8.decode(run);
    } catch {
      throw new Malformed("text that is not UTF-8");
    }
  }
}

class Table {
  constructor(reader, at, size, vtable, slots) {
    Object.assign(this, { reader, at, size, vtable, slots });
  }

  /** Where a field of so many bytes stands; 0 if it is absent. */
  field(slot, size) {
    if (slot >= this.slots) return 0;
    const offset = this.reader.view.getUint16(this.vtable + 4 + 2 * slot, true);
    if (offset === 0) return 0;
    if (offset < 4 || offset + size > this.size) throw new Malformed("a field outside of its table");
    return this.at + offset;
  }

  byte(slot) {
    const at = this.field(slot, 1);
    return at ? this.reader.bytes[at] : 0;
  }

  long(slot) {
    const at = this.field(slot, 8);
    return at ? this.reader.view.getBigInt64(at, true) : 0n;
  }

  target(slot) {
    const at = this.field(slot, 4);
    return at ? this.reader.follow(at) : 0;
  }

  vector(slot, itemSize) {
    const at = this.target(slot);
    return at ? this.reader.vector(at, itemSize) : [0, 0];
  }

  word(slot) {
    const at = this.target(slot);
    return at ? this.reader.word(at) : "";
  }

  run(slot) {
    const at = this.target(slot);
    return at ? this.reader.run(at) : new Uint8Array(0);
  }

  /** What each offset of a vector of them leads to. */
  each(slot, most, read) {
    const [start, count] = this.vector(slot, 4);
    if (start % 4) throw new Malformed("a misaligned vector of offsets");
    if (count > most) throw new Malformed("too many entries");
    const all = [];
    for (let i = 0; i < count; i++) all.push(read(this.reader.follow(start + 4 * i)));
    return all;
  }

  words(slot) {
    return this.each(slot, ENTRIES_MAX, (at) => this.reader.word(at));
  }

  tables(slot, read) {
    return this.each(slot, ENTRIES_MAX, (at) => read(this.reader.table(at)));
  }

  shape(slot, least) {
    const [start, count] = this.vector(slot, 8);
    if (count > DIMS_MAX) throw new Malformed("too many dimensions");
    const shape = [];
    for (let i = 0; i < count; i++) {
      const dim = this.reader.view.getBigInt64(start + 8 * i, true);
      if (dim < least) throw new Malformed("a dimension");
      shape.push(dim);
    }
    return shape;
  }

  strings(slot) {
    const reader = this.reader;
    return this.each(slot, STRINGS_MAX, (at) => {
      if (--reader.strings < 0) throw new Malformed("too many strings");
      return reader.run(at);
    });
  }
}

// --- messages --------------------------------------------------------------------------------------------------------

function readTensor(table) {
  const type = table.byte(0);
  const shape = table.shape(1, 0n);
  const data = table.run(2);
  const strings = table.strings(3);
  const isBool = table.byte(4) !== 0;
  if (type === 0 || type >= TYPES.length) throw new Malformed("a type without elements");
  if (isBool && type !== UINT8) throw new Malformed("bool of another type");
  const size = BigInt(SIZES[type]);
  const count = shape.reduce((product, dim) => product * dim, 1n);
  const extent = shape.reduce((product, dim) => product * (dim || 1n), size);
  if (extent >= 2n ** 31n) throw new Malformed("a tensor of 2 GiB");
  const head = { type: TYPES[type], shape: shape.map(String) };
  if (type === STRING) {
    if (data.length || BigInt(strings.length) !== count) throw new Malformed("number of strings");
    return { ...head, strings: strings.map(base64) };
  }
  if (strings.length || BigInt(data.length) !== count * size) throw new Malformed("bytes of data");
  return { ...head, data: base64(data) };
}

function readIO(table) {
  const io = { name: table.word(0), description: table.word(1), shape: table.shape(2, -1n).map(String) };
  const number = table.byte(3);
  return number < TYPES.length ? { ...io, type: TYPES[number] } : { ...io, type: "null", type_number: number };
}

function readError(table) {
  return { code: String(table.long(0)), message: table.word(1) };
}

const MESSAGES = {
  request(reader) {
    const root = reader.root();
    const kind = root.byte(0);
    if (kind > 2) throw new Unsupported("a kind of request");
    const at = root.target(1);
    if (kind === 0 || at === 0) throw new Malformed("a request of nothing");
    const body = reader.table(at);
    if (kind === 2) return { type: "metadata" };
    return {
      type: "infer",
      config: body.word(0),
      input_names: body.words(1),
      inputs: body.tables(2, readTensor),
      output_names: body.words(3),
    };
  },

  infer_response(reader) {
    const root = reader.root();
    const outputs = root.tables(0, readTensor);
    try {
      return { outputs, errors: root.tables(1, readError) };
    } catch (error) {
      if (!(error instanceof Malformed) || outputs.length === 0) throw error;
      return { outputs, errors: [] };
    }
  },

  metadata_response(reader) {
    const root = reader.root();
    const [name, version, server, description] = [0, 1, 2, 3].map((slot) => root.word(slot));
    return { name, version, server, description, inputs: root.tables(4, readIO), outputs: root.tables(5, readIO) };
  },
};

// --- cases -----------------------------------------------------------------------------------------------------------

function base64(bytes) {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
}

function decode(message, bytes) {
  try {
    return { ok: true, value: MESSAGES[message](new Reader(bytes)) };
  } catch (error) {
    if (error instanceof Malformed) return { ok: false, error: "malformed" };
    if (error instanceof Unsupported) return { ok: false, error: "unsupported" };
    throw error;
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  if (!line.trim()) continue;
  const asked = JSON.parse(line);
  const result =
    asked.op === "decode"
      ? decode(asked.message, new Uint8Array(Buffer.from(asked.bytes, "base64")))
      : { unsupported: "this adapter decodes, and does nothing else" };
  const answer = `${JSON.stringify({ id: asked.id, ...result })}\n`;
  if (!process.stdout.write(answer)) await new Promise((resolve) => process.stdout.once("drain", resolve));
}

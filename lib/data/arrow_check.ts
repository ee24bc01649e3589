import { DictionaryBatch } from 'apache-arrow/fb/dictionary-batch';
import type { Field } from 'apache-arrow/fb/field';
import { Footer } from 'apache-arrow/fb/footer';
import { Message } from 'apache-arrow/fb/message';
import { MessageHeader } from 'apache-arrow/fb/message-header';
import { RecordBatch } from 'apache-arrow/fb/record-batch';
import { Schema } from 'apache-arrow/fb/schema';
import { Type } from 'apache-arrow/fb/type';
import { Union } from 'apache-arrow/fb/union';
import { ByteBuffer } from 'flatbuffers';

/**
 * Arrow's metadata is a flatbuffer, read without bounds: one wrong byte can ask for 2^31 fields or rows. Every count that
 * the decoder loops over is held against the bytes that could back it, before it is decoded.
 * @param columns of the schema before it: where each column's values stand among all those of a batch
 * @param compressed whether buffers may be
 * @returns kind of the message, the bytes of its body and the columns. @throws Error that says what does not fit
 */
export function checkMessage(metadata: Uint8Array, columns: readonly number[], compressed: boolean): { readonly kind: MessageHeader; readonly body: number; readonly columns: readonly number[] } {
  const message = Message.getRootAsMessage(new ByteBuffer(metadata));
  const body = Number(message.bodyLength());
  const kind = message.headerType();
  atMost('metadata', message.customMetadataLength(), metadata.length / 4);
  if (kind === MessageHeader.Schema) columns = checkSchema(message.header(new Schema()) as Schema | null, metadata.length);
  else if (kind === MessageHeader.RecordBatch) checkBatch(message.header(new RecordBatch()) as RecordBatch | null, metadata.length, body, columns, compressed);
  else if (kind === MessageHeader.DictionaryBatch) checkBatch((message.header(new DictionaryBatch()) as DictionaryBatch | null)?.data() ?? null, metadata.length, body, [0], compressed);
  else throw new Error(`a message of kind ${kind} has no place here`);
  return { kind, body, columns };
}

/** @returns the columns of a file's schema, as of a message. @throws Error that says what does not fit */
export function checkFooter(bytes: Uint8Array): number[] {
  const footer = Footer.getRootAsFooter(new ByteBuffer(bytes));
  atMost('metadata', footer.customMetadataLength(), bytes.length / 4);
  return checkSchema(footer.schema(), bytes.length);
}

/** The record batches of a footer have to stand at `places`, in that order. @throws Error */
export function checkPlaces(bytes: Uint8Array, places: readonly number[], dictionaries: number): void {
  const footer = Footer.getRootAsFooter(new ByteBuffer(bytes));
  if (footer.dictionariesLength() !== dictionaries) throw new Error(`the footer names ${footer.dictionariesLength()} dictionaries, ${dictionaries} are there`);
  if (footer.recordBatchesLength() !== places.length) throw new Error(`the footer names ${footer.recordBatchesLength()} record batches, ${places.length} are there`);
  places.forEach((place, i) => {
    if (Number(footer.recordBatches(i)!.offset()) !== place) throw new Error(`the footer has record batch ${i} in another place`);
  });
}

function checkSchema(schema: Schema | null, bytes: number): number[] {
  if (!schema) throw new Error('the schema is missing');
  let fields = 0;
  let nodes = 0;
  const visit = (field: Field | null, indexed: boolean): void => {
    if (!field) throw new Error('a field is missing');
    atMost('fields', ++fields, bytes / 8);
    atMost('children', field.childrenLength(), bytes / 8);
    atMost('metadata', field.customMetadataLength(), bytes / 8);
    if (field.typeType() === Type.Union) atMost('union types', (field.type(new Union()) as Union).typeIdsLength(), bytes / 4);
    if (!indexed) ++nodes;
    for (let i = 0; i < field.childrenLength(); ++i) visit(field.children(i), indexed || field.dictionary() !== null);
  };
  atMost('metadata', schema.customMetadataLength(), bytes / 4);
  atMost('fields', schema.fieldsLength(), bytes / 8);
  const columns: number[] = [];
  for (let i = 0; i < schema.fieldsLength(); ++i) {
    columns.push(nodes);
    visit(schema.fields(i), false);
  }
  return columns;
}

function checkBatch(batch: RecordBatch | null, bytes: number, body: number, columns: readonly number[], compressed: boolean): void {
  if (!batch) throw new Error('a record batch has no header');
  atMost('nodes', batch.nodesLength(), bytes / 16);
  atMost('buffers', batch.buffersLength(), bytes / 16);
  if (batch.compression() && !compressed) throw new Error('compressed buffers are not read here');
  // A value has at least a bit; what is compressed may unpack to more.
  const values = batch.compression() ? 2 ** 28 : 8 * body;
  atMost('rows', Number(batch.length()), values);
  for (let i = 0; i < batch.nodesLength(); ++i) {
    const node = batch.nodes(i)!;
    atMost('values', Number(node.length()), values);
    atMost('nulls', Number(node.nullCount()), Number(node.length()));
  }
  // The decoder would fill a shorter column up with nulls.
  for (const column of columns) {
    const rows = batch.nodes(column)?.length();
    if (rows !== batch.length()) throw new Error(`a column has ${rows} rows, its batch ${batch.length()}`);
  }
  for (let i = 0; i < batch.buffersLength(); ++i) {
    const buffer = batch.buffers(i)!;
    if (buffer.offset() < 0n) throw new Error('a buffer starts before the body');
    atMost('bytes', Number(buffer.offset()) + Number(buffer.length()), body);
    atMost('bytes', -Number(buffer.length()), 0);
  }
}

function atMost(what: string, count: number, limit: number): void {
  if (!(count <= limit)) throw new Error(`${count} ${what} are said to be where ${Math.floor(limit)} can be`);
}

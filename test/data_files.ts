import { writeFileSync } from 'node:fs';
import { DuckDBInstance } from '@duckdb/node-api';
import { type DataType, Field, Float64, Int32, Int64, List, Table, tableToIPC, Utf8, vectorFromArray } from 'apache-arrow';
import { random } from './helpers.ts';

/** A request of richSchema under the column names of a columnar file. */
export type FlatRequest = Readonly<Record<string, unknown>>;

export function flatRequests(count: number, seed = 1): FlatRequest[] {
  const next = random(seed);
  const int = (n: number): number => Math.floor(next() * n);
  return Array.from({ length: count }, (_, r) => {
    let time = 1_700_000_000;
    const n = int(6);
    const C = 1 + int(3);
    const times = Array.from({ length: n }, () => (time += int(500)));
    return {
      id: `r${r}`, user_id: `u${int(9)}`, time: time + int(50),
      'user.user_id': `u${int(9)}`, 'user.age': 20 + int(40), 'user.likes': Array.from({ length: int(4) }, () => int(50)),
      'context.hour': int(24),
      'history.item': times.map(() => int(50)), 'history.action': times.map(() => int(3)), 'history.dwell': times.map(() => int(1000) / 8), 'history.time': times,
      'candidates.item': Array.from({ length: C }, () => int(50)), 'candidates.price': Array.from({ length: C }, () => int(100) / 16),
      'labels.click': Array.from({ length: C }, () => int(2)), 'labels.buy': Array.from({ length: C }, () => (int(3) === 0 ? null : int(2))),
    };
  });
}

/** The same as a JSON line holds it. */
export function asRequest(flat: FlatRequest): Record<string, unknown> {
  const request: Record<string, Record<string, unknown>> = { user: {}, context: {}, history: {}, candidates: {}, labels: {} };
  const result: Record<string, unknown> = request;
  for (const [name, value] of Object.entries(flat)) {
    const [side, feature] = name.split('.') as [string, string | undefined];
    if (feature === undefined) result[name === 'user_id' ? 'userKey' : name] = value;
    else request[side]![feature] = value;
  }
  return result;
}

export function writeJsonl(path: string, flat: readonly FlatRequest[]): void {
  writeFileSync(path, flat.map((f) => `${JSON.stringify(asRequest(f))}\n`).join(''));
}

const lists = (type: DataType): List => new List(Field.new('item', type, true));
const types: Readonly<Record<string, DataType>> = {
  id: new Utf8(), user_id: new Utf8(), time: new Float64(),
  'user.user_id': new Utf8(), 'user.age': new Float64(), 'user.likes': lists(new Int32()), 'context.hour': new Int32(),
  'history.item': lists(new Int64()), 'history.itm': lists(new Int64()), 'history.action': lists(new Int32()), 'history.dwell': lists(new Float64()), 'history.time': lists(new Float64()),
  'candidates.item': lists(new Int32()), 'candidates.price': lists(new Float64()), 'labels.click': lists(new Int32()), 'labels.buy': lists(new Int32()),
};

/** @param batch rows of a record batch */
export function writeArrow(path: string, flat: readonly FlatRequest[], form: 'file' | 'stream', batch = 16): void {
  const big = (name: string, v: unknown): unknown => (name.startsWith('history.it') ? (v as (number | null)[]).map((x) => (x === null ? null : BigInt(x))) : v);
  const tables: Table[] = [];
  for (let i = 0; i < flat.length; i += batch) {
    const part = flat.slice(i, i + batch);
    tables.push(new Table(Object.fromEntries(Object.keys(flat[0]!).map((name) => [name, vectorFromArray(part.map((f) => big(name, f[name])), types[name]!)]))));
  }
  writeFileSync(path, tableToIPC(tables.slice(1).reduce((a, b) => a.concat(b as never), tables[0]!), form));
}

/** By DuckDB, in row groups of 2048. `sql` may change the columns of `requests`. */
export async function writeParquet(path: string, flat: readonly FlatRequest[], sql = 'SELECT * FROM requests'): Promise<void> {
  const lines = `${path}.flat.json`;
  writeFileSync(lines, flat.map((f) => `${JSON.stringify(f)}\n`).join(''));
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  const columns = Object.keys(flat[0]!).map((name) => {
    const listed = /^(history|candidates|labels)\.|likes$/.test(name) ? '[]' : '';
    const type = /item|likes|hour|action|labels/.test(name) ? 'BIGINT' : /user_id|^id$/.test(name) ? 'VARCHAR' : 'DOUBLE';
    return `'${name}': '${type}${listed}'`;
  });
  await connection.run(`CREATE TABLE requests AS FROM read_json('${lines}', format='newline_delimited', columns={${columns.join(', ')}})`);
  await connection.run(`COPY (${sql}) TO '${path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)`);
  connection.closeSync();
  instance.closeSync();
}

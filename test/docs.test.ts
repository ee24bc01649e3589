import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import t from 'tap';
import { commands } from '../lib/cli/commands.ts';
import { configSchema } from '../lib/cli/settings.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { rankServer } from '../lib/serve/http_server.ts';
import { RankService } from '../lib/serve/rank_service.ts';

/** What README and docs show must work as shown: TypeScript compiles and README's runs, commands parse, JSON is what it is said to be. */
const root = join(import.meta.dirname, '..');
const pages = ['README.md', 'CHANGELOG.md', ...readdirSync(join(root, 'docs')).filter((f) => f.endsWith('.md')).map((f) => `docs/${f}`)];
const text = new Map(pages.map((page) => [page, readFileSync(join(root, page), 'utf8')]));

interface Snippet { readonly page: string; readonly line: number; readonly language: string; readonly text: string }

function snippets(page: string): Snippet[] {
  const found: Snippet[] = [];
  const lines = text.get(page)!.split('\n');
  for (let i = 0; i < lines.length; ++i) {
    const open = /^```(\w*)$/.exec(lines[i]!);
    if (!open) continue;
    const from = i + 1;
    while (lines[++i] !== '```') if (i >= lines.length) throw new Error(`${page}:${from}: a snippet without an end`);
    found.push({ page, line: from + 1, language: open[1]!, text: lines.slice(from, i).join('\n') });
  }
  return found;
}

const all = pages.flatMap(snippets);
const of = (...languages: string[]): Snippet[] => all.filter((s) => languages.includes(s.language));

/** What the snippets take for granted. */
const given = `
const user = { age: 3 }, time = 1_700_000_000;
const [events, history] = [[{ item: 5, action: 2, time: 1_699_980_000 }], [{ item: 17, action: 1, time: 1_699_990_000 }]];
const candidates = Array.from({ length: 20 }, (_, item) => ({ item }));
`;
const log = `const myLog = [0, 1].map((click) => ({ user, time, history, candidates: [{ item: 4 }], labels: { click: [click] } }));\n`;

/** Words of a shell line, quotes undone, up to a comment. */
function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|"([^"]*)"|(#.*)|([^\s'"#]+)/g)].filter((m) => m[3] === undefined).map((m) => m[1] ?? m[2] ?? m[4]!);
}

const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
const known = new Map(commands.map((make) => [make().name(), make]));

/** Parses the words with the command's own parser, without running it. */
async function parse([name, ...args]: readonly string[]): Promise<void> {
  const make = known.get(name!);
  if (!make) throw new Error(`there is no command '${name}'`);
  await make().exitOverride().configureOutput({ writeErr: () => undefined }).action(() => undefined).parseAsync(args, { from: 'user' });
}

/** The flags that a benchmark's own source declares: what tsx runs, or what runs once it is compiled. */
function flags(script: string): Set<string> {
  const file = /(?:tsx |build\/bench-js\/)(bench\/[\w/]+)\.[jt]s$/.exec(scripts[script]!)![1]!;
  const source = readFileSync(join(root, `${file}.ts`), 'utf8');
  return new Set([...source.matchAll(/'?([\w-]+)'?: \{ type: '(?:string|boolean)'/g)].map((m) => `--${m[1]}`));
}

async function check(line: string): Promise<void> {
  const [tool, ...rest] = words(line);
  if (tool === 'npx') return check(line.replace(/^\s*npx /, ''));
  if (tool === 'longer') {
    if (!rest.includes('|')) return parse(rest);
    for (const name of rest.filter((w) => w !== '|')) if (!known.has(name)) throw new Error(`there is no command '${name}'`);
  } else if (tool === 'npm') {
    const name = rest[0] === 'run' ? rest.find((w, i) => i > 0 && !w.startsWith('-'))! : rest[0]!;
    if (name === 'install') return;
    if (!(name in scripts)) throw new Error(`there is no script '${name}'`);
    if (!name.startsWith('bench')) return;
    const wrong = rest.slice(rest.indexOf('--') + 1).filter((w) => w.startsWith('--') && !flags(name).has(w));
    if (rest.includes('--') && wrong.length > 0) throw new Error(`there is no ${wrong.join(', ')}`);
  } else if (tool !== 'curl') throw new Error(`no rule for '${tool}'`); // README's curl calls are made below
}

await t.test('commands parse', async (t) => {
  const shell = of('bash').flatMap((s) => s.text.replace(/\\\n\s*/g, ' ').split('\n').map((line) => line.replace(/\s#.*$/, '')).flatMap((line) => line.split('&&')).filter((l) => l.trim() !== '').map((line) => ({ at: `${s.page}:${s.line}`, line })));
  const inline = pages.flatMap((page) => [...text.get(page)!.matchAll(/`(npm run [^`]+|(?:npx )?longer [a-z]+ -[^`]+)`/g)].map((m) => ({ at: page, line: m[1]!.replaceAll('\n', ' ') })));
  const manifests = of('ini', 'yaml').flatMap((s) => [...s.text.matchAll(/npx,? (longer,? [^\]\n]+)/g)].map((m) => ({ at: `${s.page}:${s.line}`, line: m[1]!.replaceAll(',', '') })));
  t.ok(shell.length > 15 && inline.length > 5 && manifests.length === 2, 'there is something to check');
  for (const { at, line } of [...shell, ...inline, ...manifests]) await t.resolves(check(line), `${at}: ${line}`);
  await t.rejects(check('longer train --data x --schema y'), /--out/, 'a missing option would be seen');
  await t.rejects(check('longer doctor --jsn'), /unknown option/);
  await t.rejects(check('npm run bench -- --onyl x'), /--onyl/);
});

t.test('JSON is a request or settings', (t) => {
  const config = new Ajv2020({ strict: false }).compile(configSchema());
  const shown = of('json').map((s) => ({ at: `${s.page}:${s.line}`, value: JSON.parse(s.text) as object }));
  t.ok(shown.length >= 2);
  for (const { at, value } of shown) if (!('candidates' in value)) t.ok(config(value), `${at} ${JSON.stringify(config.errors)}`);
  t.notOk(config({ model: { preset: 'longer', widht: 3 } }), 'a wrong key would be seen');
  t.end();
});

await t.test('TypeScript compiles, and what README shows runs', async (t) => {
  const directory = t.testdir();
  // Without the loaders of the tests, which tap gives to every child.
  const node = (...args: string[]) => spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, ...args], { cwd: directory, encoding: 'utf8' });
  const code = (page: string): string[] => of('ts').filter((s) => s.page === page).map((s) => s.text);
  const readme = code('README.md');
  t.equal(readme.length, 2, 'use and serving');
  t.equal(of('ts').length, readme.length + code('docs/serving.md').length, 'every snippet is compiled');
  const copied = `\n(await import('node:fs')).cpSync('model', 'newer-model', { recursive: true });\n`;
  writeFileSync(join(directory, 'readme.ts'), `${given}${log}${readme.join(copied)}\nexport { schema };\n`);
  writeFileSync(join(directory, 'serving.ts'), `import type { Ranker } from 'longer-rec';\nimport type { schema } from './readme.ts';\n${given}declare const ranker: Ranker<typeof schema.spec>;\n${code('docs/serving.md').join('\n')}`);
  writeFileSync(join(directory, 'wrong.ts'), `${given}${log}${readme.join('\n').replace('age: id(10, 8)', 'aeg: id(10, 8)')}`);
  writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify({ extends: join(root, 'tsconfig.json'), compilerOptions: { rootDir: '.', typeRoots: [join(root, 'node_modules/@types')] }, include: ['*.ts'] }));
  const tsc = node(join(root, 'node_modules/typescript-7/bin/tsc'), '-p', directory);
  t.equal(tsc.stderr, '', 'the compiler runs');
  const errors = tsc.stdout.split('\n').filter((line) => line.includes('error'));
  t.strictSame(errors.filter((line) => !line.includes('wrong.ts')), [], 'against the types that the package ships');
  t.match(errors.join('\n'), /wrong\.ts.*TS2345/, 'and a schema types its requests');

  // A loaded machine may take longer than 50 ms.
  writeFileSync(join(directory, 'readme.ts'), readFileSync(join(directory, 'readme.ts'), 'utf8').replace('timeout: 50', 'timeout: 600_000') + `\nif (logits.length !== candidates.length || best.index.length !== 10) throw new Error('no scores');\n`);
  const run = node('--import', 'tsx', 'readme.ts');
  t.equal(run.status, 0, `README's code runs ${run.stderr}`);

  await using service = await RankService.open(join(directory, 'model'));
  const app = await rankServer({ service });
  const calls = of('bash').filter((s) => s.page === 'README.md').flatMap((s) => s.text.split('\n')).filter((line) => line.startsWith('curl '));
  t.equal(calls.length, 2, 'calls over HTTP');
  for (const line of calls) {
    const [, url, ...rest] = words(line);
    const after = (flag: string): string[] => rest.filter((_, i) => rest[i - 1] === flag);
    const headers = Object.fromEntries(after('-H').map((h) => h.split(': '))) as Record<string, string>;
    if ('x-deadline-ms' in headers) headers['x-deadline-ms'] = '600000';
    const [body] = after('-d');
    const reply = await app.inject({ method: body === undefined ? 'GET' : 'POST', url: new URL(`http://${url}`).pathname, headers, ...(body === undefined ? {} : { payload: body }) });
    t.equal(reply.statusCode, 200, `${line} ${reply.body.slice(0, 200)}`);
  }
  await app.close();
  for (const s of of('json')) {
    const value = JSON.parse(s.text) as object;
    if ('candidates' in value) t.doesNotThrow(() => encodeRequest(service.schema, value as never), `${s.page}:${s.line}`);
  }
});

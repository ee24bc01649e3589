'use strict';
// bench/results/<device>-<date>.json: written anew after every result, so that what is there survives whatever comes after.
const { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { output, root } = require('./host.cjs');

const folder = process.env.LONGER_GPU_RESULTS ?? join(root, 'bench', 'results');

class Report {
  /** Goes on with the file of the same device and day, so that tests and figures stand in one. */
  constructor(device, how) {
    const slug = device.name.toLowerCase().replace(/[^a-z0-9]+/g, '-');
    this.path = join(folder, `${slug}-${new Date().toISOString().slice(0, 10)}.json`);
    const before = existsSync(this.path) ? JSON.parse(readFileSync(this.path, 'utf8')) : {};
    const commit = output('git', ['describe', '--always', '--dirty']) ?? (existsSync(join(root, 'COMMIT')) ? readFileSync(join(root, 'COMMIT'), 'utf8').trim() : 'unknown');
    this.content = { tests: [], figures: [], ...before, device: device.name, driver: device.driver, build: how, commit, date: new Date().toISOString() };
  }

  /** What an earlier run of the same day said of a name. */
  forget(kind, name) {
    this.content[kind] = this.content[kind].filter((r) => r.name !== name);
  }

  /** One result of a kind ('tests', 'figures') by its name; the same name's earlier one goes. */
  add(kind, result) {
    this.forget(kind, result.name);
    this.content[kind].push(result);
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${this.path}.new`, `${JSON.stringify(this.content, null, 1)}\n`);
    renameSync(`${this.path}.new`, this.path);
  }
}

module.exports = { Report };

// The persistent JavaScript: runs cells one after another in one global scope and reports what they gave.
//
// Cells are evaluated through the engine's own REPL mode (the inspector's Runtime.evaluate), which knows top-level
// await and lets a later cell declare a name anew. Cells and results travel over a socket, a line of JSON each; what a
// cell prints goes to the descriptors 1 and 2.
//
// It runs as `node -e <this text>`, with the channel's descriptor and `javascript` or `typescript` as arguments.
'use strict';

const inspector = require('node:inspector');
const { createRequire, stripTypeScriptTypes } = require('node:module');
const net = require('node:net');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const util = require('node:util');
const vm = require('node:vm');

const MAX_TEXT = 200_000;
const MAX_BINARY = 7_000_000;
const MAX_TRACE = 20_000;
const ACCESS = 'globalThis[Symbol.for("guestd.kernel")]'; // how code evaluated elsewhere reaches `access`
const DISPLAY = Symbol.for('Jupyter.display');
const MIME_OF_METHOD = {
  _toHtml: 'text/html',
  _toSvg: 'image/svg+xml',
  _toPng: 'image/png',
  _toJpeg: 'image/jpeg',
};
const FORMATS = {
  'text/plain': 'text',
  'text/html': 'html',
  'text/markdown': 'markdown',
  'image/svg+xml': 'svg',
  'image/png': 'png',
  'image/jpeg': 'jpeg',
  'application/pdf': 'pdf',
  'text/latex': 'latex',
  'application/json': 'json',
  'application/javascript': 'javascript',
};

const [descriptor, language] = process.argv.slice(1);
process.argv.length = 1;
const channel = new net.Socket({ fd: Number(descriptor), readable: true, writable: true });
const session = new inspector.Session();
session.connect();

let abandon = null; // ends the wait for the cell that runs
let count = 0;

const send = (message) => channel.write(JSON.stringify(message) + '\n');

const shorten = (text, limit = MAX_TEXT) =>
  text.length <= limit
    ? text
    : `${text.slice(0, limit / 2)}\n[… ${text.length - limit} characters left out …]\n${text.slice(-limit / 2)}`;

/** Ask the inspector; outside of a promise's executor, which would show in the traces of what it evaluates. */
function post(method, parameters) {
  let settle;
  const answered = new Promise((resolve, reject) => {
    settle = (error, answer) => (error ? reject(error) : resolve(answer));
  });
  session.post(method, parameters, settle);
  return answered;
}

// We use what node calls experimental; whoever runs a cell need not read of it.
const warn = process.emitWarning;
process.emitWarning = (warning, ...rest) =>
  /USE_MAIN_CONTEXT_DEFAULT_LOADER|stripTypeScriptTypes/.test(String(warning)) || warn.call(process, warning, ...rest);

// What cells find in their global scope.

const requireHere = () => createRequire(path.join(process.cwd(), 'cell.js'));

function importHere(specifier, options) {
  const loader = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER;
  if (!loader) {
    const builtin = specifier.startsWith('node:') || require('node:module').builtinModules.includes(specifier);
    return import(builtin ? specifier : pathToFileURL(requireHere().resolve(specifier)).href);
  }
  const load = vm.compileFunction('return import(specifier, options)', ['specifier', 'options'], {
    filename: path.join(process.cwd(), 'cell.mjs'),
    importModuleDynamically: loader,
  });
  return load(String(specifier), options);
}

function bundleOf(value) {
  const bundle = { 'text/plain': util.inspect(value, { maxArrayLength: 1000, maxStringLength: MAX_TEXT }) };
  if (value === null || typeof value !== 'object') return bundle;
  for (const [method, mime] of Object.entries(MIME_OF_METHOD)) {
    if (typeof value[method] === 'function') bundle[mime] = value[method]();
  }
  if (typeof value._toMime === 'function') Object.assign(bundle, value._toMime());
  if (typeof value[DISPLAY] === 'function') Object.assign(bundle, value[DISPLAY]());
  if (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype) {
    try {
      const text = JSON.stringify(value);
      if (text && text.length <= MAX_TEXT * 5) bundle['application/json'] = JSON.parse(text);
    } catch {
      // It holds itself, or what JSON has no word for.
    }
  }
  return bundle;
}

const unquoted = (text) => (/^(['"]).*\1$/s.test(text) && text.length > 1 ? text.slice(1, -1) : text);

function show(bundle, main) {
  const result = { type: 'result', is_main_result: main, extra: {} };
  for (let [mime, data] of Object.entries(bundle)) {
    if (Buffer.isBuffer(data) || data instanceof Uint8Array) data = Buffer.from(data).toString('base64');
    if (mime === 'text/plain') data = unquoted(shorten(String(data)));
    if (data === undefined || (typeof data === 'string' && data.length > MAX_BINARY)) continue;
    if (FORMATS[mime]) result[FORMATS[mime]] = data;
    else result.extra[mime] = data;
  }
  send(result);
}

function display(value, options = {}) {
  show(options.raw ? value : bundleOf(value), false);
}

for (const [name, value] of Object.entries({ display, __import: importHere })) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
}
Object.defineProperty(globalThis, 'require', { get: requireHere, configurable: true, enumerable: false });
const access = { run: null, given: undefined };
Object.defineProperty(globalThis, Symbol.for('guestd.kernel'), { value: access });

// From a cell to what the engine's REPL mode takes.

class TypeScriptUnavailable extends Error {
  name = 'TypeScriptUnavailable';
}

function withoutTypes(code) {
  if (stripTypeScriptTypes) return stripTypeScriptTypes(code, { mode: 'strip' });
  try {
    const typescript = createRequire('/usr/lib/node_modules/')('typescript');
    const { ES2022: target, ESNext: module } = { ...typescript.ScriptTarget, ...typescript.ModuleKind };
    const compilerOptions = { target, module, verbatimModuleSyntax: true };
    return typescript.transpileModule(code, { compilerOptions }).outputText;
  } catch {
    throw new TypeScriptUnavailable(
      `TypeScript needs node 22.13 or newer, or the package typescript installed globally; this is node ${process.versions.node}.`,
    );
  }
}

const IMPORT = /^([ \t]*)import\s+(?:([\w$*{}\s,]+?)\s+from\s*)?(['"])([^'"\n]+)\3[ \t]*(?:with\s*(\{[^}]*\}))?[ \t]*;?/gm;
const EXPORT = /^([ \t]*)export\s+(?:default\s+)?(?=(?:const|let|var|function|class|async)\b)/gm;

/** Turn `import … from` into what may stand in a script. */
function importCall(_whole, indent, names, _quote, specifier, attributes) {
  const options = attributes ? `, { with: ${attributes} }` : '';
  const call = `await __import(${JSON.stringify(specifier)}${options})`;
  if (!names) return `${indent}${call};`;
  const parts = [];
  const whole = /\*\s*as\s+([\w$]+)/.exec(names);
  const listed = /\{([^}]*)\}/.exec(names);
  const only = /^\s*([\w$]+)\s*(?:,|$)/.exec(names);
  if (listed) parts.push(...listed[1].split(',').map((item) => item.trim().replace(/\s+as\s+/, ': ')));
  if (only) parts.push(`default: ${only[1]}`);
  if (!whole) return `${indent}const { ${parts.filter(Boolean).join(', ')} } = ${call};`;
  const rest = only ? ` const ${only[1]} = ${whole[1]}.default;` : '';
  return `${indent}const ${whole[1]} = ${call};${rest}`;
}

function isScript(code) {
  try {
    new vm.Script(code);
    return true;
  } catch {
    return false;
  }
}

function asScript(code) {
  const source = language === 'typescript' ? withoutTypes(code) : code;
  const script = source.replace(/(?<![\w$.])import(?=\s*\()/g, '__import');
  if (/^\s*\{[^]*\}\s*$/.test(script) && isScript(`(${script}\n)`)) return `(${script}\n)`; // an object, not a block
  return isScript(script) ? script : script.replace(IMPORT, importCall).replace(EXPORT, '$1');
}

// Running.

const RUN = new vm.Script(`${ACCESS}.run()`, { filename: 'node:kernel' });

/** Evaluate so that a SIGINT ends an endless loop. */
function evaluate(code) {
  let answer;
  access.run = () => {
    const expression = `${code}\n//# sourceURL=cell-${count}`;
    answer = post('Runtime.evaluate', { expression, replMode: true, awaitPromise: true });
  };
  RUN.runInThisContext({ breakOnSigint: true });
  return answer;
}

/** Return the very value that the inspector only describes. */
async function valueOf(remote) {
  if (!remote.objectId) {
    if (remote.unserializableValue === undefined) return remote.value;
    return vm.runInThisContext(remote.unserializableValue);
  }
  const holder = await post('Runtime.evaluate', { expression: ACCESS });
  await post('Runtime.callFunctionOn', {
    objectId: holder.result.objectId,
    functionDeclaration: 'function (value) { this.given = value; }',
    arguments: [{ objectId: remote.objectId }],
  });
  await post('Runtime.releaseObject', { objectId: remote.objectId });
  const value = access.given;
  access.given = undefined;
  return value;
}

function errorOf(thrown) {
  if (!(thrown instanceof Error)) return { name: 'Error', value: shorten(util.inspect(thrown), MAX_TRACE), traceback: '' };
  const lines = String(thrown.stack ?? thrown).split('\n');
  const own = lines.filter((line) => !/^\s+at .*(node:|\[eval\])/.test(line));
  return { name: thrown.name, value: shorten(String(thrown.message), MAX_TRACE), traceback: shorten(own.join('\n'), MAX_TRACE) };
}

const interrupted = () => Object.assign(new Error('The cell was interrupted.'), { name: 'Interrupted', stack: '' });

async function outcome(code) {
  try {
    const waiting = new Promise((_, reject) => (abandon = () => reject(interrupted())));
    const answer = await Promise.race([evaluate(asScript(code)), waiting]);
    if (answer.exceptionDetails) return errorOf(await valueOf(answer.exceptionDetails.exception));
    const value = await valueOf(answer.result);
    if (value !== undefined) show(bundleOf(value), true);
    return null;
  } catch (error) {
    return errorOf(error.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED' ? interrupted() : error);
  } finally {
    abandon = null;
  }
}

async function serve(cell) {
  count += 1;
  send({ type: 'begin' });
  Object.assign(process.env, cell.keep_env);
  const before = Object.entries(cell.env).map(([name]) => [name, process.env[name]]);
  Object.assign(process.env, cell.env);
  let error = null;
  try {
    if (cell.cwd) process.chdir(cell.cwd);
    error = await outcome(cell.code);
  } catch (thrown) {
    error = errorOf(thrown);
  }
  for (const [name, value] of before) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  send({ type: 'end', error });
}

process.on('SIGINT', () => abandon?.());
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error) => console.error(errorOf(error).traceback || error));
}

let pending = '';
let last = Promise.resolve();
channel.setEncoding('utf8');
channel.on('data', (text) => {
  const lines = (pending + text).split('\n');
  pending = lines.pop();
  for (const line of lines) last = last.then(() => serve(JSON.parse(line)));
});
channel.on('close', () => process.exit(0));
channel.on('error', () => process.exit(0));
send({ type: 'ready' });

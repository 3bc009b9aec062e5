/** The bearer key, kept for this tab only, and whether the server asked for one. */

const NAME = 'orchestrion.key';
const listeners = new Set<() => void>();
let wanted = false;

function read(): string {
  try {
    return sessionStorage.getItem(NAME) ?? '';
  } catch {
    return '';
  }
}

let key = read();

function tell(): void {
  for (const listener of listeners) listener();
}

/** The key, or an empty string. */
export function currentKey(): string {
  return key;
}

/** Use this key from now on. */
export function setKey(value: string): void {
  key = value;
  wanted = false;
  try {
    sessionStorage.setItem(NAME, value);
  } catch {
    // Forbidden storage: the key lives as long as the page.
  }
  tell();
}

/** The server answered 401 to a request with the key `used`: the form is to be shown, unless there is a new key by now. */
export function askForKey(used: string): void {
  if (wanted || used !== key) return;
  wanted = true;
  tell();
}

export function keyIsWanted(): boolean {
  return wanted;
}

export function onKeyChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Headers that every request carries. */
export function authHeaders(): Record<string, string> {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

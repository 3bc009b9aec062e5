import { ApiError, getJson, problemError, request, serverUrl } from './client';
import { askForKey, authHeaders, currentKey } from './key';
import type { FileRef } from './records';

const base = (session: string): string => `api/sessions/${encodeURIComponent(session)}`;

function filePath(session: string, path: string): string {
  return `${base(session)}/files/${path.split('/').map(encodeURIComponent).join('/')}`;
}

/** Where a file's bytes are; only good for `src` and `href` while no key is needed. */
export function fileUrl(session: string, path: string): string {
  return serverUrl(filePath(session, path));
}

/** Links and pictures can't carry a key; with one, bytes must be fetched. */
export function linksWork(): boolean {
  return currentKey() === '';
}

export async function listFiles(session: string): Promise<FileRef[]> {
  return (await getJson<{ files: FileRef[] }>(`${base(session)}/files`)).files;
}

export async function fetchText(session: string, path: string): Promise<string> {
  return (await request(filePath(session, path))).text();
}

/** The beginning of a file of whatever size, and whether that is not all of it. */
export async function fetchBeginning(session: string, path: string, limit: number): Promise<{ text: string; cut: boolean }> {
  try {
    const response = await request(filePath(session, path), { headers: { Range: `bytes=0-${limit - 1}` } });
    const total = Number(/\/(\d+)$/.exec(response.headers.get('Content-Range') ?? '')?.[1] ?? 0);
    return { text: await response.text(), cut: total > limit };
  } catch (error) {
    // An empty file has no range.
    if (error instanceof ApiError && error.status === 416) return { text: '', cut: false };
    throw error;
  }
}

export async function fetchBlob(session: string, path: string): Promise<Blob> {
  return (await request(filePath(session, path))).blob();
}

function save(address: string, name: string): void {
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
}

async function saveFrom(path: string, name: string): Promise<void> {
  if (linksWork()) return save(serverUrl(path), name);
  const address = URL.createObjectURL(await (await request(path)).blob());
  save(address, name);
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Hand a file to the browser's downloads. */
export function downloadFile(session: string, path: string): Promise<void> {
  return saveFrom(`${filePath(session, path)}?download=1`, path.split('/').at(-1) ?? path);
}

/** Hand all files of the session, as one archive, to the browser's downloads. */
export function downloadArchive(session: string): Promise<void> {
  return saveFrom(`${base(session)}/archive`, `${session}.zip`);
}

function uploadError(request: XMLHttpRequest, file: File, used: string): ApiError {
  if (request.status === 401) askForKey(used);
  if (request.status) return problemError(request.status, request.responseText);
  return new ApiError(
    0,
    'The upload was cut off.',
    `The connection closed while ${file.name} was being sent.`,
    "It may be over the server's size limit, or the network failed. Try again or send a smaller file.",
  );
}

/** Upload one file; `onProgress` hears the part done, 0 to 1. XMLHttpRequest, since fetch tells no progress. */
export function uploadFile(
  session: string,
  file: File,
  onProgress: (part: number) => void,
  signal: AbortSignal,
): Promise<FileRef[]> {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    const used = currentKey();
    const form = new FormData();
    form.append('file', file, file.name);
    call.open('POST', serverUrl(`${base(session)}/files`));
    for (const [name, value] of Object.entries(authHeaders())) call.setRequestHeader(name, value);
    call.upload.onprogress = (event) => onProgress(event.total ? event.loaded / event.total : 0);
    call.onerror = () => reject(uploadError(call, file, used));
    call.onabort = () => reject(new DOMException('The upload was stopped.', 'AbortError'));
    call.onload = () => {
      if (call.status < 200 || call.status >= 300) return reject(uploadError(call, file, used));
      resolve((JSON.parse(call.responseText) as { files: FileRef[] }).files);
    };
    signal.addEventListener('abort', () => call.abort());
    call.send(form);
  });
}

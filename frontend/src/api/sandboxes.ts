/** Sandboxes: the isolated computers in which a session's code runs. */

import { createParser } from 'eventsource-parser';

import { getJson, request, sendJson, serverUrl } from './client';
import { currentKey } from './key';

export interface Sandbox {
  id: string;
  provider: string;
  state: 'running' | 'paused';
  session_id: string | null;
  template: string;
  created_at: string;
  ends_at: string | null;
  memory_mb: number;
}

export interface Entry {
  name: string;
  path: string;
  type: 'file' | 'directory' | 'other';
  size: number;
  modified_at: string;
}

export interface ProcessInfo {
  pid: number;
  command: string;
  args: string[];
  cwd: string | null;
  tag: string | null;
}

export interface Metrics {
  cpu_count: number;
  cpu_percent: number;
  memory_used: number;
  memory_total: number;
  disk_used: number;
}

/** One piece of a process's log. */
export interface LogLine {
  kind: string;
  data: string | number;
}

const base = (id: string): string => `api/sandboxes/${encodeURIComponent(id)}`;
const query = (path: string): string => `path=${encodeURIComponent(path)}`;

/** The session's sandbox, if it has one. */
export async function sessionSandbox(session: string): Promise<Sandbox | null> {
  const { sandboxes } = await getJson<{ sandboxes: Sandbox[] }>(`api/sandboxes?session_id=${encodeURIComponent(session)}`);
  return sandboxes.at(-1) ?? null;
}

export function makeSandbox(session: string): Promise<Sandbox> {
  return sendJson('POST', 'api/sandboxes', { session_id: session });
}

export function pauseSandbox(id: string): Promise<Sandbox> {
  return sendJson('POST', `${base(id)}/pause`);
}

export function resumeSandbox(id: string): Promise<Sandbox> {
  return sendJson('POST', `${base(id)}/resume`);
}

export function getMetrics(id: string): Promise<Metrics> {
  return getJson(`${base(id)}/metrics`);
}

export async function listEntries(id: string, path: string): Promise<Entry[]> {
  return (await getJson<{ entries: Entry[] }>(`${base(id)}/files?${query(path)}`)).entries;
}

/** Hand a file to the browser's downloads. */
export async function downloadEntry(id: string, entry: Entry): Promise<void> {
  const answer = await request(`${base(id)}/files/content?${query(entry.path)}`);
  const address = URL.createObjectURL(await answer.blob());
  const link = document.createElement('a');
  link.href = address;
  link.download = entry.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

export async function uploadEntry(id: string, path: string, file: File): Promise<void> {
  await request(`${base(id)}/files?${query(path)}`, { method: 'PUT', body: file });
}

export async function removeEntry(id: string, path: string): Promise<void> {
  await request(`${base(id)}/files?${query(path)}`, { method: 'DELETE' });
}

export async function listProcesses(id: string): Promise<ProcessInfo[]> {
  return (await getJson<{ processes: ProcessInfo[] }>(`${base(id)}/processes`)).processes;
}

export function startProcess(id: string, command: string, cwd: string | null): Promise<{ pid: number }> {
  return sendJson('POST', `${base(id)}/processes`, { command, cwd });
}

export async function killProcess(id: string, pid: number): Promise<void> {
  await request(`${base(id)}/processes/${pid}`, { method: 'DELETE' });
}

/** Follow a process's log until it ends or the signal says stop. */
export async function followLog(
  id: string,
  pid: number,
  onLine: (line: LogLine) => void,
  signal: AbortSignal,
): Promise<void> {
  const answer = await request(`${base(id)}/processes/${pid}/logs`, { signal });
  const parser = createParser({
    onEvent: ({ event, data }) => onLine({ kind: event ?? '', data: JSON.parse(data) as string | number }),
  });
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) parser.feed(piece.value);
}

/** Where a service inside answers; only good for links while no key is needed. */
export function portUrl(id: string, port: number): string {
  return serverUrl(`${base(id)}/ports/${port}/`);
}

function base64url(text: string): string {
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** A shell in a terminal; what is typed and shown are binary messages. */
export function openTerminal(id: string, columns: number, rows: number): WebSocket {
  const address = new URL(serverUrl(`${base(id)}/terminal?columns=${columns}&rows=${rows}`));
  address.protocol = address.protocol.replace('http', 'ws');
  const key = currentKey();
  const socket = new WebSocket(address, key ? ['orchestrion', `bearer.${base64url(key)}`] : ['orchestrion']);
  socket.binaryType = 'arraybuffer';
  return socket;
}

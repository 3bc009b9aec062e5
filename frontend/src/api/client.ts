/** Requests to the server: relative to the document, errors as one type. */

import { askForKey, authHeaders, currentKey } from './key';

/** An address of the server, right under any path prefix. */
export function serverUrl(path: string): string {
  return new URL(path, document.baseURI).href;
}

/** A request that failed: one sentence, and what to do about it. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    detail: string,
    readonly remedy: string = '',
  ) {
    super(detail || title);
  }
}

interface Problem {
  title?: unknown;
  detail?: unknown;
  remedy?: unknown;
}

const UNREACHABLE = 'The server did not answer.';
const UNREACHABLE_REMEDY = 'Check that it is running and that you are online; what it does goes on without you.';

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** The error that an RFC 9457 problem document describes; copes with bodies that are none. */
export function problemError(status: number, body: string): ApiError {
  let problem: Problem = {};
  try {
    problem = (JSON.parse(body) as Problem | null) ?? {};
  } catch {
    // A proxy's HTML page, most likely; the status says enough.
  }
  const title = text(problem.title) || `The server answered ${status}.`;
  return new ApiError(status, title, text(problem.detail), text(problem.remedy));
}

export function unreachable(): ApiError {
  return new ApiError(0, UNREACHABLE, UNREACHABLE, UNREACHABLE_REMEDY);
}

/** Fetch, with the key; throws ApiError unless the answer is 2xx. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = { ...authHeaders(), ...(init.headers as Record<string, string> | undefined) };
  const used = currentKey();
  let response: Response;
  try {
    response = await fetch(serverUrl(path), { ...init, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw unreachable();
  }
  if (response.status === 401) askForKey(used);
  if (!response.ok) throw problemError(response.status, await response.text());
  return response;
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await request(path, signal ? { signal } : {})).json()) as T;
}

export async function sendJson<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { 'Content-Type': 'application/json' };
  }
  const answer = await (await request(path, init)).text();
  return (answer ? JSON.parse(answer) : undefined) as T;
}

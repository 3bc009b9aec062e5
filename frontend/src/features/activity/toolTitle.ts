/** What a tool call does, in the user's words. */

import type { ToolItem } from '@/lib/run/view';

function arg(item: ToolItem, name: string): string {
  const value = item.args[name];
  return typeof value === 'string' ? value : '';
}

const TITLES: Record<string, (item: ToolItem) => [string, string]> = {
  list_files: (item) => ['Look through files', arg(item, 'path')],
  read_file: (item) => ['Read', arg(item, 'path')],
  write_file: (item) => ['Write', arg(item, 'path')],
  execute_code: (item) => ['Run code', firstLine(arg(item, 'code'))],
  execute: (item) => ['Run command', firstLine(arg(item, 'command'))],
  update_plan: () => ['Tick the plan', ''],
  web_fetch: (item) => ['Fetch', arg(item, 'url')],
  list_sources: () => ['List sources', ''],
  search_documents: (item) => ['Search documents', arg(item, 'query')],
  read_source: (item) => ['Read source', arg(item, 'source')],
  write_report: (item) => ['Write the report', arg(item, 'title')],
};

function firstLine(text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  return lines.find((line) => line && !line.startsWith('#') && !/^(import|from)\s/.test(line)) ?? lines[0] ?? '';
}

/** A verb phrase and what it is about. */
export function toolTitle(item: ToolItem): { action: string; about: string } {
  const [action, about] = TITLES[item.name]?.(item) ?? [item.name.replaceAll('_', ' '), ''];
  return { action, about };
}

/** The code a call carries, if that is what it is about. */
export function toolCode(item: ToolItem): { code: string; language: string } | null {
  if (item.name === 'execute_code') return { code: arg(item, 'code'), language: arg(item, 'language') || 'python' };
  if (item.name === 'execute') return { code: arg(item, 'command'), language: 'bash' };
  return null;
}

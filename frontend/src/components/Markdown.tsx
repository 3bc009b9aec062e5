/** Markdown of agents and reports. No raw HTML, and no picture from elsewhere: loading one would tell its host. */

import { isValidElement, memo, type ComponentProps, type ReactNode } from 'react';
import ReactMarkdown, { type Components } from 'react-markdown';
import remarkGfm from 'remark-gfm';

import { rehypeCitations } from '@/lib/citations';
import { scrollBehavior } from '@/lib/motion';

import { CodeBlock } from './CodeBlock';
import { FileImage } from './FileImage';
import { useSessionFiles } from './session';

const ELSEWHERE = /^[a-z][a-z0-9+.-]*:|^\/\//i;

function workspacePath(address: string): string {
  const bare = address.replace(/[?#].*$/, '').replace(/^(\.\/|\/workspace\/|\/)+/, '');
  try {
    return decodeURIComponent(bare);
  } catch {
    return bare;
  }
}

function goToSource(event: React.MouseEvent<HTMLAnchorElement>): void {
  event.preventDefault();
  const article = event.currentTarget.closest('.prose');
  const id = event.currentTarget.getAttribute('href')?.slice(1) ?? '';
  const target = article?.querySelector<HTMLElement>(`[id="${CSS.escape(id)}"]`);
  if (!target) return;
  for (const item of article?.querySelectorAll('[data-cited]') ?? []) item.removeAttribute('data-cited');
  target.dataset.cited = 'true';
  target.tabIndex = -1;
  target.focus({ preventScroll: true });
  target.scrollIntoView({ block: 'center', behavior: scrollBehavior() });
}

function Link({ href = '', children, node: _, ...rest }: ComponentProps<'a'> & { node?: unknown }) {
  const { open } = useSessionFiles();
  if (href.startsWith('#'))
    return (
      <a href={href} onClick={goToSource} {...rest}>
        {children}
      </a>
    );
  if (ELSEWHERE.test(href))
    return (
      <a href={href} target="_blank" rel="noopener noreferrer" {...rest}>
        {children}
      </a>
    );
  const show = (event: React.MouseEvent) => {
    event.preventDefault();
    open(workspacePath(href));
  };
  return (
    <a href={href} onClick={show} {...rest}>
      {children}
    </a>
  );
}

function Picture({ src, alt = '' }: ComponentProps<'img'>) {
  const address = typeof src === 'string' ? src : '';
  if (!address || ELSEWHERE.test(address)) return <Link href={address}>{alt || address || 'picture'}</Link>;
  return (
    <span className="my-4 block">
      <FileImage path={workspacePath(address)} alt={alt} />
      {alt && <span className="mt-1.5 block text-sm text-soft">{alt}</span>}
    </span>
  );
}

function textOf(node: ReactNode): string {
  if (Array.isArray(node)) return node.map(textOf).join('');
  return typeof node === 'string' ? node : '';
}

function Pre({ children }: { children?: ReactNode }) {
  if (!isValidElement<{ className?: string; children?: ReactNode }>(children)) return <pre>{children}</pre>;
  const language = /language-(\S+)/.exec(children.props.className ?? '')?.[1] ?? '';
  return <CodeBlock code={textOf(children.props.children).replace(/\n$/, '')} language={language} />;
}

function Table({ children }: { children?: ReactNode }) {
  return (
    <div className="table-box" tabIndex={0} role="group" aria-label="Table">
      <table>{children}</table>
    </div>
  );
}

const components: Components = { a: Link, img: Picture, pre: Pre, table: Table };

export const Markdown = memo(function Markdown({ text, className = '' }: { text: string; className?: string }) {
  return (
    <div className={`prose ${className}`}>
      <ReactMarkdown remarkPlugins={[remarkGfm]} rehypePlugins={[rehypeCitations]} components={components}>
        {text}
      </ReactMarkdown>
    </div>
  );
});

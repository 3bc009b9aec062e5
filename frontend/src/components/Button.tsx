import type { ButtonHTMLAttributes, ReactNode } from 'react';

type Look = 'plain' | 'primary' | 'danger';

const LOOKS: Record<Look, string> = {
  plain: 'border border-line bg-card hover:bg-sunk text-ink',
  primary: 'bg-accent text-on-accent hover:opacity-90',
  danger: 'bg-bad text-card hover:opacity-90',
};

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: Look;
}

export function Button({ look = 'plain', className = '', ...rest }: ButtonProps) {
  const shape = 'inline-flex h-9 items-center gap-2 rounded-full px-4 text-sm font-medium disabled:opacity-50';
  return <button type="button" className={`${shape} ${LOOKS[look]} ${className}`} {...rest} />;
}

interface IconButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  label: string;
  children: ReactNode;
}

/** A button that shows only an icon; `label` is what a screen reader and the tooltip say. */
export function IconButton({ label, className = '', children, ...rest }: IconButtonProps) {
  const shape = 'inline-grid size-9 flex-none place-items-center rounded-full text-soft hover:bg-sunk hover:text-ink';
  return (
    <button type="button" aria-label={label} title={label} className={`${shape} ${className}`} {...rest}>
      {children}
    </button>
  );
}

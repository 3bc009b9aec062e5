import * as Dialog from '@radix-ui/react-dialog';
import { X } from 'lucide-react';
import type { ReactNode } from 'react';

import { IconButton } from './Button';

interface DrawerProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  side: 'left' | 'right';
  title: string;
  /** As wide as work inside it needs. */
  wide?: boolean;
  children: ReactNode;
}

/** A panel over the page's edge; closes on Escape and on a click beside it. */
export function Drawer({ open, onOpenChange, side, title, wide = false, children }: DrawerProps) {
  const width = wide ? 'w-[min(52rem,100vw)]' : 'w-[min(23rem,88vw)]';
  const edge = side === 'left' ? 'left-0 border-r' : 'right-0 border-l';
  return (
    <Dialog.Root open={open} onOpenChange={onOpenChange}>
      <Dialog.Portal>
        <Dialog.Overlay className="fade-in fixed inset-0 z-40 bg-black/35" />
        <Dialog.Content
          aria-describedby={undefined}
          className={`fade-in fixed inset-y-0 z-50 flex flex-col border-line bg-paper ${width} ${edge}`}
        >
          <header className="flex h-14 flex-none items-center justify-between pr-2.5 pl-5">
            <Dialog.Title className="font-serif text-lg font-medium">{title}</Dialog.Title>
            <Dialog.Close asChild>
              <IconButton label="Close">
                <X size={18} />
              </IconButton>
            </Dialog.Close>
          </header>
          <div className="min-h-0 flex-1 overflow-y-auto">{children}</div>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

import * as Menu from '@radix-ui/react-dropdown-menu';
import { Check, ChevronDown } from 'lucide-react';

import { WAYS, type Way } from './ways';

/** The choice of mode or agent. */
export function WayMenu({ way, onChange }: { way: Way; onChange: (way: Way) => void }) {
  return (
    <Menu.Root>
      <Menu.Trigger className="inline-flex h-9 items-center gap-1.5 rounded-full px-3 text-sm text-soft hover:bg-sunk hover:text-ink">
        <span className="sr-only">How to go about it:</span> {way.name}
        <ChevronDown size={14} aria-hidden="true" />
      </Menu.Trigger>
      <Menu.Portal>
        <Menu.Content align="start" sideOffset={6} className="fade-in z-60 min-w-64 rounded-xl border border-line bg-card p-1 shadow-lg">
          <Menu.RadioGroup value={way.id} onValueChange={(id) => onChange(WAYS.find((one) => one.id === id) ?? WAYS[0])}>
            {WAYS.map(({ id, name, says }) => (
              <Menu.RadioItem key={id} value={id} className="flex items-center gap-3 rounded-lg px-3 py-1.5 text-sm outline-none data-[highlighted]:bg-sunk">
                <span className="flex-1">
                  {name}
                  <span className="block text-xs text-soft">{says}</span>
                </span>
                <Menu.ItemIndicator>
                  <Check size={15} className="text-accent" />
                </Menu.ItemIndicator>
              </Menu.RadioItem>
            ))}
          </Menu.RadioGroup>
        </Menu.Content>
      </Menu.Portal>
    </Menu.Root>
  );
}

import { useState } from 'react';

import { currentKey, setKey } from '@/api/key';
import { Button } from '@/components/Button';
import { Logo } from '@/components/Logo';

/** Asks for the server's key; it is kept for this tab only. */
export function KeyForm() {
  const [value, setValue] = useState('');
  const refused = currentKey() !== '';
  const submit = (event: React.FormEvent) => {
    event.preventDefault();
    if (value.trim()) setKey(value.trim());
  };
  return (
    <main className="grid h-full place-items-center p-5">
      <form onSubmit={submit} className="w-full max-w-sm">
        <Logo className="size-9" />
        <h1 className="mt-4 font-serif text-2xl font-medium">This server needs a key</h1>
        <p className="mt-2 text-sm text-soft">
          Whoever runs it can give you one. It stays in this tab and is forgotten when the tab is closed.
        </p>
        <label className="mt-5 block text-sm font-medium" htmlFor="key">
          Key
        </label>
        <input
          id="key"
          type="password"
          autoFocus
          autoComplete="off"
          value={value}
          aria-describedby={refused ? 'refused' : undefined}
          onChange={(event) => setValue(event.target.value)}
          className="mt-1 h-11 w-full rounded-xl border border-line bg-card px-3.5 font-mono text-sm"
        />
        {refused && (
          <p id="refused" role="alert" className="mt-2 text-sm text-bad">
            The server did not accept that key.
          </p>
        )}
        <Button type="submit" look="primary" className="mt-4" disabled={!value.trim()}>
          Continue
        </Button>
      </form>
    </main>
  );
}

import { fileURLToPath } from 'node:url';

import tailwindcss from '@tailwindcss/vite';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

const server = process.env.ORCHESTRION_URL ?? 'http://127.0.0.1:8700';

export default defineConfig({
  // Relative addresses, so that the page works under any path of a proxy.
  base: './',
  plugins: [react(), tailwindcss()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  build: {
    outDir: '../src/orchestrion/server/static',
    emptyOutDir: true,
    chunkSizeWarningLimit: 800,
  },
  server: {
    proxy: Object.fromEntries(['/api', '/healthz', '/readyz'].map((path) => [path, server])),
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});

// Run by src/server/replica-process.ts: what is loaded here is in the compile cache afterwards.
await import('../server/serve.ts')
process.argv = [...process.argv.slice(0, 2), '--version']
await import('./main.ts')
export {}

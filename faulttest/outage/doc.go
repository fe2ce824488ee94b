// Package outage holds tests only: every source of endpoints has every fault it can have, for a minute and under load, while
// a backend is replaced. No call may fail because of it, the endpoints in use must be the true ones soon after the fault is
// over, and the source must not be asked more than once a second.
//
// Each source with each fault has a mesh, a load and four backends of its own. All of them run at the same time, as most of
// the time nothing happens; the machine should have nothing else to do. -v shows a table.
//
// Faults that make no sense, or that are the same as another one for the source, are left out:
//
//   - DNS and files have no connections whose end could go unnoticed. Questions have a time limit anyway.
//   - Files have no server that could be killed, be frozen or be busy. A writer that has stopped is one that is late ("stale").
//   - The xDS control plane runs in this process: "killed" ends it and loses what it knew, and "frozen" stops its sockets
//     instead of the process.
package outage

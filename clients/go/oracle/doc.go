// Package oracle holds the Go client's codec against the official FlatBuffers runtime: what one writes the other must read. It
// is a module of its own, so that the client depends on nothing.
package oracle

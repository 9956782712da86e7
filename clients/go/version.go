package graphpipe

// Version is this release's number: that of the tag clients/go/vX.Y.Z. Clients name it in their User-Agent.
const Version = "0.1.0"

module example.com/ask

go 1.22

require github.com/graphpipe/graphpipe/clients/go v0.0.0

replace github.com/graphpipe/graphpipe/clients/go => ../../../clients/go

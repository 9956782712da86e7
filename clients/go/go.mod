module github.com/graphpipe/graphpipe/clients/go

go 1.22

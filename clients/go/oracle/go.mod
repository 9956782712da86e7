module github.com/graphpipe/graphpipe/clients/go/oracle

go 1.22

require github.com/graphpipe/graphpipe/clients/go v0.0.0

require github.com/google/flatbuffers v25.12.19+incompatible

replace github.com/graphpipe/graphpipe/clients/go => ../

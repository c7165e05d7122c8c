package config

// Uploads bound multipart/form-data bodies, beside max_body.
type Uploads struct {
	Parts      int     `yaml:"parts" default:"64" min:"1" max:"10000" doc:"Parts of one body."`
	File       *Size   `yaml:"file" min:"1B" max:"1GiB" doc:"Size of one file. Default: max_body."`
	Field      Size    `yaml:"field" default:"64KiB" min:"1B" max:"16MiB" doc:"Size of one part that is no file."`
	Memory     Size    `yaml:"memory" default:"1MiB" min:"4KiB" max:"64MiB" doc:"How much is held until all of it is checked; a larger file goes on while it comes, and is cut off when something behind it is wrong."`
	Extensions *[]Text `yaml:"refuse_extensions" max:"1000" doc:"Extensions of file names that are refused, like php. Default: those a server or a desktop runs; []: none."`
	Place      Place   `yaml:"-"`
}

// GRPC bounds the messages of gRPC streams, beside max_body.
type GRPC struct {
	Message    Size  `yaml:"message" default:"1MiB" min:"1B" max:"1GiB" doc:"Size of one message."`
	Messages   int   `yaml:"messages" min:"0" max:"1000000000" doc:"Messages of one request; 0: as many as max_body has room for."`
	Compressed bool  `yaml:"compressed" doc:"Take compressed messages, which the service alone can open: their true size is not known here."`
	Place      Place `yaml:"-"`
}

// GraphQL makes an operation a GraphQL endpoint and bounds what may be asked there.
type GraphQL struct {
	Depth         int    `yaml:"depth" default:"12" min:"1" max:"1000" doc:"Fields inside one another, fragments unfolded."`
	Aliases       int    `yaml:"aliases" default:"20" min:"0" max:"100000" doc:"Fields renamed: one field asked for many times is how logins are guessed in one request."`
	RootFields    int    `yaml:"root_fields" default:"10" min:"1" max:"10000" doc:"Fields of the operation itself."`
	Cost          int    `yaml:"cost" default:"1000" min:"1" max:"1000000000" doc:"Fields asked for, each times what first, last or limit ask for around it."`
	Tokens        int    `yaml:"tokens" default:"2000" min:"1" max:"1000000" doc:"Tokens of one document."`
	Directives    int    `yaml:"directives" default:"20" min:"0" max:"100000" doc:"Directives of one document."`
	Batch         int    `yaml:"batch" default:"5" min:"1" max:"1000" doc:"Documents in one request."`
	Introspection bool   `yaml:"introspection" doc:"Let callers ask for the schema."`
	Operations    []Text `yaml:"operations" max:"100000" format:"sha256" doc:"SHA-256, in hex, of the only documents taken. Default: any document within the bounds."`
	Persisted     bool   `yaml:"persisted" doc:"Let a request name a document by its SHA-256 alone, as automatic persisted queries do; it costs as much as cost."`
	Charge        int    `yaml:"charge" default:"100" min:"0" max:"1000000000" doc:"So many fields count as one more request against the caller's limits; 0: none do."`
	Place         Place  `yaml:"-"`
}

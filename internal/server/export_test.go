package server

import "github.com/gatehouse-api/gatehouse/internal/store"

// Share makes nodes of one process share m.
func (o *Options) Share(m *store.SharedMemory) { o.memory = m }

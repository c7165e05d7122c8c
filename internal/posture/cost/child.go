package cost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"
)

// The parts a measurement has children for, as [Config.Child] is asked for them.
const (
	PartService = "service"
	PartLoad    = "load"
)

// A child is a process of ours that ends when its input does.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startChild(cmd *exec.Cmd) (*child, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd, in, json.NewDecoder(out)}, nil
}

// end lets the child end, and makes it end where it does not.
func (c *child) end() error {
	_ = c.in.Close()
	late := time.AfterFunc(2*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	err := c.cmd.Wait()
	if errors.Is(err, context.Canceled) {
		return nil // whoever cancelled knows it
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok && !e.Exited() { // by a signal: Ctrl-C is the children's, too
		return nil
	}
	return err
}

// ask sends an order to the child that loads, and waits for what came of it.
func (c *child) ask(o *order) (t tally, err error) {
	if err := json.NewEncoder(c.in).Encode(o); err != nil {
		return t, fmt.Errorf("the load: %w", err)
	}
	if err := c.out.Decode(&t); err != nil {
		return t, fmt.Errorf("the load has ended: %w", err)
	}
	return t, nil
}

// children starts both of them; end ends them.
func children(ctx context.Context, start func(ctx context.Context, part, address string) *exec.Cmd, address string) (load *child, service string, end func() error, err error) {
	behind, err := startChild(start(ctx, PartService, address))
	if err != nil {
		return nil, "", nil, fmt.Errorf("the service cannot be started: %w", err)
	}
	if err := behind.out.Decode(&service); err != nil {
		return nil, "", nil, errors.Join(fmt.Errorf("the service cannot listen at %s", address), behind.end())
	}
	load, err = startChild(start(ctx, PartLoad, ""))
	if err != nil {
		return nil, "", nil, errors.Join(fmt.Errorf("the load cannot be started: %w", err), behind.end())
	}
	return load, service, func() error { return errors.Join(load.end(), behind.end()) }, nil
}

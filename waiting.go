package zerohop

import "context"

// Waiter is implemented by an Exchange over something that can be closed while the call waits for endpoints.
type Waiter interface {
	// Wait is called when the call begins to wait. It returns a context for that, which also ends when waiting is in
	// vain, and what is to be called after.
	Wait(ctx context.Context) (context.Context, context.CancelFunc)
}

// await blocks until the service has endpoints, or ends the call.
func (c *Call) await(patient bool) error {
	ctx := c.ctx
	if w, ok := c.exchange.(Waiter); ok {
		var cancel context.CancelFunc
		ctx, cancel = w.Wait(ctx)
		defer cancel()
	}
	if err := c.target.service.wait(ctx, patient); err != nil {
		return c.unready(ctx, err)
	}
	return nil
}

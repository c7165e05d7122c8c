package authn

import "context"

// Look is what Run does four times a second.
func (k *Keys) Look(ctx context.Context) error { return k.refresh(ctx) }

// Count is how many keys requests see.
func (k *Keys) Count() int { return len(*k.live.Load()) }

package hub

import "time"

// SmallPieces makes files of some hundred kB have many pieces.
func (c *Client) SmallPieces() {
	c.limits = limits{small: 64 << 10, piece: 32 << 10, pieces: 512, sync: 64 << 10, lag: 128 << 10, tick: 50 * time.Millisecond, worth: 4 << 10}
}

// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package memory

const (
	// each is how much of its stack a goroutine that is held uses, in bytes: four frames.
	each  = frames * frame
	frame = 60 << 10
	// frames of that size are within a stack of 256 KiB, with all that is around them.
	frames = 4
	// goal is what is added to the stack of a goroutine on average, in bytes. With what it uses itself that is between
	// 8 and 16 KiB, and the runtime takes the next power of two, 16 KiB, the largest of which each processor keeps some.
	goal = 10 << 10
	// most is how many goroutines are held at most, 16 MiB of stacks. It is for 1,500 others. Where there are more of
	// them, most wait for something, and they begin with less.
	most = 64
)

// stacks holds goroutines that do nothing but use some of their stack.
//
// The runtime has new goroutines begin with a stack of what those that it met in the last collection used on average
// (https://go.dev/doc/go1.19#runtime). In a server most of them wait for something and use little, while those of the
// requests that come and go need more than ten times as much.
type stacks struct {
	held []chan struct{}
}

// tune holds as many as it takes with so many others.
func (s *stacks) tune(goroutines int) {
	others := max(0, goroutines-len(s.held))
	wanted := min((others*goal+each-1)/each, most)
	for len(s.held) < wanted {
		end := make(chan struct{})
		go use(frames, end)
		s.held = append(s.held, end)
	}
	for last := len(s.held) - 1; last >= wanted; last-- {
		close(s.held[last])
		s.held = s.held[:last]
	}
}

// use has so many frames on the stack until the end.
//
//go:noinline
func use(frames int, end <-chan struct{}) byte {
	var room [frame]byte
	if frames > 1 {
		room[frames] = use(frames-1, end)
	} else {
		<-end
	}
	return room[frames]
}

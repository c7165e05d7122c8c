package ddos

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// A challenge is text of five parts,
//
//	1 "." expires "." bits "." nonce "." mac
//
// expires in Unix seconds and bits in decimal, nonce and mac in base64url. The mac is
// an HMAC-SHA-256, cut at 128 bits, over the rest and the caller's address (an IPv6
// /64), so that nothing is remembered of a challenge that was given out, and one that
// was solved elsewhere opens nothing here. Solved it is
//
//	challenge "." n
//
// with a decimal n for which the SHA-256 of the whole begins with that many zero
// bits. It is a pass until it expires: to solve another one would cost the same and
// give the same, so that using it up would only cost us the memory of it.
const (
	challengeVersion = "1"
	challengeMost    = 192 // bytes of a pass
	leastBits        = 4
	mostBits         = 24 // sixteen million hashes: a minute of a telephone's
)

// Names of what carries challenges and passes.
const (
	HeaderChallenge = "Gatehouse-Challenge" // of an answer: the challenge
	HeaderPass      = "Gatehouse-Pass"      // of a request: the solved one
	CookiePass      = "gatehouse-pass"      // the same from a browser; with __Host- before it over TLS
)

var (
	errPassForm    = errors.New("ddos: not a solved challenge")
	errPassMAC     = errors.New("ddos: not a challenge of ours for this address")
	errPassExpired = errors.New("ddos: the challenge has expired")
	errPassWork    = errors.New("ddos: the challenge is not solved")
)

// Challenge makes a challenge for a caller. It is harder for who stands out more.
func (g *Guard) Challenge(a netip.Addr, v Verdict, now time.Time) string {
	s := g.state.Load()
	hard := s.bits
	if v.Why == WhyLadder || v.Why == WhyNetwork || v.Why == WhyAttack && !s.attack && s.attacked != nil {
		hard += 2 // it was picked out, or what it asks for is under attack
	}
	var nonce [12]byte
	_, _ = rand.Read(nonce[:]) // it never fails
	b := make([]byte, 0, challengeMost)
	b = append(b, challengeVersion+"."...)
	b = strconv.AppendInt(b, now.Add(s.settings.PassLife).Unix(), 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(min(mostBits, hard)), 10)
	b = append(b, '.')
	b = base64.RawURLEncoding.AppendEncode(b, nonce[:])
	mac := g.mac(a, string(b))
	b = append(b, '.')
	return string(base64.RawURLEncoding.AppendEncode(b, mac[:]))
}

func (g *Guard) mac(a netip.Addr, head string) (out [16]byte) {
	m := hmac.New(sha256.New, g.cfg.Key)
	hi, v4, _ := split(a)
	var who [9]byte
	binary.BigEndian.PutUint64(who[1:], hi)
	who[0] = byte(boolInt(v4))
	_, _ = m.Write([]byte("gatehouse challenge\n"))
	_, _ = m.Write(who[:])
	_, _ = m.Write([]byte(head))
	copy(out[:], m.Sum(nil))
	return out
}

// CheckPass says why pass is no solved challenge of a; nil when it is one.
func (g *Guard) CheckPass(pass string, a netip.Addr, now time.Time) error {
	c, err := parseChallenge(pass, true)
	if err != nil {
		return err
	}
	mac := g.mac(a, c.head)
	if !hmac.Equal(mac[:], c.mac) {
		return errPassMAC
	}
	if now.Unix() >= c.expires {
		return errPassExpired
	}
	if !solved(pass, c.bits) {
		return errPassWork
	}
	return nil
}

func solved(pass string, zeros int) bool {
	sum := sha256.Sum256([]byte(pass))
	return bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:8])) >= zeros
}

type challenge struct {
	head    string // what the mac is over
	expires int64
	bits    int
	mac     []byte
}

// parseChallenge reads a challenge, or a solved one. There is one way to write each.
func parseChallenge(text string, solved bool) (*challenge, error) {
	parts := 5 + boolInt(solved)
	if len(text) > challengeMost || strings.Count(text, ".") != parts-1 {
		return nil, errPassForm
	}
	p := strings.SplitN(text, ".", parts)
	expires, err := decimal(p[1])
	if err != nil || p[0] != challengeVersion {
		return nil, errPassForm
	}
	hard, err := decimal(p[2])
	if err != nil || hard < leastBits || hard > mostBits || len(p[3]) != 16 {
		return nil, errPassForm
	}
	mac, err := base64.RawURLEncoding.Strict().DecodeString(p[4])
	if err != nil || len(mac) != 16 {
		return nil, errPassForm
	}
	if solved {
		if _, err := decimal(p[5]); err != nil {
			return nil, errPassForm
		}
	}
	return &challenge{strings.Join(p[:4], "."), expires, int(hard), mac}, nil
}

// decimal reads digits as strconv writes them.
func decimal(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, errPassForm
	}
	return n, nil
}

// Solve finds the pass of a challenge, which takes tens of thousands of hashes, until
// stop says so.
func Solve(text string, stop func() bool) (pass string, err error) {
	c, err := parseChallenge(text, false)
	if err != nil {
		return "", errors.New("ddos: not a challenge: it is the value of the header " + HeaderChallenge)
	}
	if time.Now().Unix() >= c.expires {
		return "", errPassExpired
	}
	b := append([]byte(text), '.')
	start := len(b)
	for n := int64(0); ; n++ {
		if n&0xffff == 0xffff && stop() {
			return "", errors.New("ddos: given up")
		}
		b = strconv.AppendInt(b[:start], n, 10)
		sum := sha256.Sum256(b)
		if bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:8])) >= c.bits {
			return string(b), nil
		}
	}
}

// A Caller is what [Guard.Judge] must know of a request.
type Caller struct {
	Address netip.Addr
	Claims  bool   // it sends credentials, which nobody has checked yet
	Pass    string // it sends; "" for none
	Now     time.Time
}

// Judge says whether a request may go on although something stands about its
// address: nil, or a problem with the reason network_denied, banned, throttled or
// challenge. Credentials that nobody has checked may be checked, up to a number that
// matters to nobody who has good ones: see Proven. Ask again when it has turned out
// that they prove nothing.
func (g *Guard) Judge(v Verdict, c *Caller) *gatehouse.Problem {
	if v.Report || v.Step >= Watch {
		return nil
	}
	p := g.judge(v, c)
	if p != nil {
		g.tally.refused[v.Step].Add(1)
	}
	return p
}

func (g *Guard) judge(v Verdict, c *Caller) *gatehouse.Problem {
	switch {
	case v.Step == Deny:
		return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "network_denied", Detail: "Requests from your network are not taken here."}
	case c.Claims && v.Step == Challenge:
		return nil
	case c.Claims && v.bucket != nil:
		if wait, ok := v.bucket.uncertain.take(c.Now.UnixNano(), uncertainEvery, uncertainBurst); !ok {
			return throttled(wait)
		}
		return nil
	case v.Step == Ban:
		return &gatehouse.Problem{
			Kind: gatehouse.RateLimited, Reason: "banned", Detail: "Your address sent too much and is shut out for a while.",
			RetryAfter: max(v.Until, time.Second),
		}
	case v.Step == Throttle:
		if v.bucket == nil {
			return throttled(time.Second)
		}
		if wait, ok := v.bucket.anonymous.take(c.Now.UnixNano(), throttleEvery, throttleBurst); !ok {
			return throttled(wait)
		}
		return nil
	}
	if c.Pass != "" {
		err := g.CheckPass(c.Pass, c.Address, c.Now)
		if err == nil {
			g.tally.solved.Add(1)
			return nil
		}
		return challenged(err)
	}
	return challenged(nil)
}

func throttled(wait time.Duration) *gatehouse.Problem {
	return &gatehouse.Problem{Kind: gatehouse.RateLimited, Reason: "throttled", Detail: "Your address sends too much.", RetryAfter: max(wait, time.Second)}
}

func challenged(err error) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind: gatehouse.RateLimited, Reason: "challenge", Err: err,
		Detail: "Send credentials, or solve the challenge in " + HeaderChallenge + " and send the result as " + HeaderPass + ".",
	}
}

// Proven gives back what a request took whose credentials turned out to be good.
func (g *Guard) Proven(v Verdict) {
	if v.bucket != nil && !v.Report && v.Step != Challenge {
		v.bucket.uncertain.give(uncertainEvery)
	}
}

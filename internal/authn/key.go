package authn

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"regexp"
	"strings"

	"github.com/gatehouse-api/gatehouse"
)

// KeyPattern matches an API key anywhere in a text, for secret scanners (RE2,
// PCRE and grep -E alike). Its parts, joined by "_":
//
//	gk          Gatehouse key
//	live        the environment, [a-z0-9]{1,16}
//	id          12 base62 digits: names the key in lists and logs, not secret
//	random      43 base62 digits: 256 bits
//	checksum    6 base62 digits: the CRC-32 (IEEE 802.3) of all before its "_",
//	            most significant digit first; digits are 0-9A-Za-z
//
// A match whose checksum holds ([WellFormedKey]) is a key and not an accident,
// which a scanner can tell without asking anybody.
const KeyPattern = `gk_[a-z0-9]{1,16}_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}`

const (
	keyPrefix    = "gk_"
	keyIDLen     = 12
	keyRandomLen = 43
	keySumLen    = 6
	keyTail      = 1 + keyIDLen + 1 + keyRandomLen + 1 + keySumLen // after the environment
	keyMaxLen    = len(keyPrefix) + 16 + keyTail
	base62       = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

var environmentPattern = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

// WellFormedKey reports whether key has the form of [KeyPattern], nothing before
// or after, and its checksum holds. It says nothing about its being known.
func WellFormedKey(key string) bool {
	_, _, err := keyForm(key)
	return err == nil && sumHolds(key)
}

var (
	errKeyForm = errors.New("not of the form gk_<environment>_<id>_<random>_<checksum>")
	errKeySum  = errors.New("the checksum does not hold: mistyped or cut")
)

// keyForm takes a key apart.
func keyForm(key string) (environment, id string, err error) {
	n := len(key) - keyTail
	if n <= len(keyPrefix) || n > len(keyPrefix)+16 || !strings.HasPrefix(key, keyPrefix) {
		return "", "", errKeyForm
	}
	for i := len(keyPrefix); i < len(key); i++ {
		c := key[i]
		switch {
		case i == n || i == n+1+keyIDLen || i == n+2+keyIDLen+keyRandomLen:
			if c != '_' {
				return "", "", errKeyForm
			}
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'z':
		case c >= 'A' && c <= 'Z' && i > n:
		default:
			return "", "", errKeyForm
		}
	}
	return key[len(keyPrefix):n], key[n+1 : n+1+keyIDLen], nil
}

// sumHolds checks the checksum of a key that has the form. It is no protection
// against forgers; it tells accidents, and makes leaks recognisable.
func sumHolds(key string) bool {
	body := key[:len(key)-keySumLen-1]
	sum := checksum(body)
	return string(sum[:]) == key[len(body)+1:]
}

func checksum(body string) (out [keySumLen]byte) {
	sum := ^uint32(0) // by hand: crc32.ChecksumIEEE wants bytes, and would have them allocated for every request
	for i := range len(body) {
		sum = crc32.IEEETable[byte(sum)^body[i]] ^ sum>>8
	}
	sum = ^sum
	for i := keySumLen - 1; i >= 0; i-- {
		out[i] = base62[sum%62]
		sum /= 62
	}
	return out
}

// digest is what is kept of a key that keyForm has accepted.
func digest(key string) [sha256.Size]byte {
	var buf [keyMaxLen]byte
	return sha256.Sum256(buf[:copy(buf[:], key)])
}

func newKey(environment string) (id string, key gatehouse.Secret) {
	id = randomDigits(keyIDLen)
	body := keyPrefix + environment + "_" + id + "_" + randomDigits(keyRandomLen)
	sum := checksum(body)
	return id, gatehouse.NewSecret(body + "_" + string(sum[:]))
}

// randomDigits draws uniform base62 digits: bytes that would favour the first
// digits are thrown away.
func randomDigits(n int) string {
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		_, _ = rand.Read(buf[:]) // never fails (crypto/rand ends the process instead)
		for _, b := range buf {
			if b < 4*62 && len(out) < n {
				out = append(out, base62[b%62])
			}
		}
	}
	return string(out)
}

package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// newTransport is HTTP/1.1 only: several connections are faster than several streams of one, and a stalled one can be replaced alone.
func (c *Client) newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  c.proxy,
		DialContext:            c.dial,
		Protocols:              protocols,
		TLSHandshakeTimeout:    10 * time.Second,
		DisableCompression:     true,
		MaxConnsPerHost:        c.options.Connections, // else net/http opens one more while another becomes free; nobody waits for it, as who asks has a slot
		MaxIdleConnsPerHost:    c.options.Connections,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         64 << 10,
	}
}

// proxy is the environment's; where it stands is remembered, as a proxy may well be in a private network.
func (c *Client) proxy(req *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(req)
	if err != nil {
		return nil, &Error{Class: Network, What: "the proxy that HTTP_PROXY or HTTPS_PROXY names is no address", Do: "write it like http://proxy.example:3128"}
	}
	if u != nil {
		c.proxies.Store(lower(u.Hostname()), true)
	}
	return u, nil
}

const dialTimeout = 10 * time.Second

// dial connects, and looks at the very address that a name has led to: an endpoint in the Internet must not lead us into our own network.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout}
	_, isProxy := c.proxies.Load(lower(host))
	switch {
	case lower(host) == c.origin.host:
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			if isPrivateAddress(address) {
				c.private.Store(true)
			}
			return nil
		}
	case !isProxy:
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			if isPrivateAddress(address) && !c.private.Load() {
				return &Error{Class: Protocol, What: fmt.Sprintf("the Hub led to %s, which is in a private network and refused", clean(host)), Do: endpointHint}
			}
			return nil
		}
	}
	return d.DialContext(ctx, network, addr)
}

func isPrivateAddress(address string) bool {
	ap, err := netip.ParseAddrPort(address)
	return err != nil || isPrivate(ap.Addr())
}

// notPublic are addresses beyond what netip knows: shared (carrier) networks, benchmarks, protocol assignments, reserved, NAT64 and 6to4, which hide an IPv4 address.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

func isPrivate(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return true
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// isPrivateHost looks at a name as it is written. What it leads to is looked at when it is connected. A name whose last part is a number is an address in some old notation (127.1, 0x7f000001).
func isPrivateHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return isPrivate(a)
	}
	host = strings.TrimSuffix(lower(host), ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || last == "" || last[0] >= '0' && last[0] <= '9'
}

// networkError is what an error of the network means to a person, and whether to try again.
func networkError(err error) *Error {
	e := &Error{Class: Network, Do: "check the network and try again", Err: err, tries: maxTries}
	var (
		dns     *net.DNSError
		verify  *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		record  tls.RecordHeaderError
		op      *net.OpError
	)
	switch {
	case errors.Is(err, errQuiet):
		e.What, e.Err = "the server sends nothing, or next to nothing", nil
	case errors.As(err, &dns):
		e.What, e.Err = "the name "+clean(dns.Name)+" has no address", nil
		e.Do = "check the network, and HF_ENDPOINT if it is set"
	case errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &record):
		e.What, e.Do, e.tries = "the connection is not secure", "if a proxy here breaks TLS open, its certificate has to be known to the system (SSL_CERT_FILE)", 0
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		e.What, e.Err = "the connection ended too early", nil
	case errors.As(err, &op) && op.Op == "proxyconnect":
		e.What, e.Err, e.Do = "the proxy of HTTPS_PROXY or HTTP_PROXY cannot be reached", op.Err, "mend or unset the proxy, or except the host with NO_PROXY"
		if inner := new(net.OpError); errors.As(op.Err, &inner) {
			e.Err = inner.Err
		}
	case errors.As(err, &op):
		e.What, e.Err = op.Op+" "+place(op), op.Err
		var errno syscall.Errno
		if errors.As(op.Err, &errno) {
			e.Err = errno
		}
	default:
		e.What = "the connection failed"
	}
	return e
}

func place(op *net.OpError) string {
	if op.Addr == nil {
		return op.Net
	}
	return op.Addr.String()
}

func lower(s string) string { return strings.ToLower(s) }

func cutTrim(text, sep string) (before, after string, found bool) {
	before, after, found = strings.Cut(text, sep)
	return strings.TrimSpace(before), strings.TrimSpace(after), found
}

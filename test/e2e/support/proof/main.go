// Reads a manifest of artefacts (JSON) from standard input and looks at each one twice: with the RFC lints of zlint, and
// with Go's own crypto/x509 and x/crypto/ocsp as a relying party would. Prints a finding a line (JSON), then the count.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"os"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
	"golang.org/x/crypto/ocsp"
)

// Artefact is one file and what is expected of it. Paths of certificates are PEM, the file itself is DER.
type Artefact struct {
	Name string
	Kind string // certificate, crl, ocsp
	File string

	Issuer string // the CA that signed it; empty for a root
	Root   string // certificate: the trust anchor
	Chain  string // certificate: what came with it

	Revoked map[string]int // crl: of every entry, serial in hex without leading zeros to reason code
	Point   string         // crl: the distribution point of a partition; empty for a whole list

	Certificate string // ocsp: asked about; empty where only the serial is known
	Serial      string // ocsp: in hex without leading zeros
	Status      string // ocsp: good, revoked, unknown
	Reason      int    // ocsp: reason code
	Hash        string // ocsp: of the CertID, as SHA-256
}

type finding struct {
	Artefact string `json:"artefact"`
	Checker  string `json:"checker"`
	Code     string `json:"code"`
	Message  string `json:"message"`
}

var rfcs = lint.SourceList{
	lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6960, lint.RFC6962, lint.RFC8813, lint.Community,
}

func main() {
	log.SetFlags(0)
	var artefacts []Artefact
	if err := json.NewDecoder(os.Stdin).Decode(&artefacts); err != nil {
		log.Fatal(err)
	}
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: rfcs})
	if err != nil {
		log.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	for _, artefact := range artefacts {
		der := text(artefact.File)
		for code, message := range zlinted(artefact.Kind, der, registry) {
			out.Encode(finding{artefact.Name, "zlint", code, message})
		}
		for _, problem := range relied(artefact, der) {
			out.Encode(finding{artefact.Name, "go", artefact.Kind, problem})
		}
	}
	out.Encode(map[string]int{"checked": len(artefacts)})
}

// zlinted gives every lint that did not pass, with its level.
func zlinted(kind string, der []byte, registry lint.Registry) map[string]string {
	var set *zlint.ResultSet
	var err error
	switch kind {
	case "certificate":
		var certificate *zx509.Certificate
		if certificate, err = zx509.ParseCertificate(der); err == nil {
			set = zlint.LintCertificateEx(certificate, registry)
		}
	case "crl":
		var list *zx509.RevocationList
		if list, err = zx509.ParseRevocationList(der); err == nil {
			set = zlint.LintRevocationListEx(list, registry)
		}
	case "ocsp":
		var answer *ocsp.Response
		if answer, err = ocsp.ParseResponse(der, nil); err == nil {
			set = zlint.LintOcspResponseEx(answer, registry)
		}
	default:
		err = fmt.Errorf("unknown kind %q", kind)
	}
	if err != nil {
		return map[string]string{"parse": err.Error()}
	}
	found := map[string]string{}
	for name, result := range set.Results {
		if result.Status > lint.Pass {
			found[name] = result.Status.String() + " " + result.Details
		}
	}
	return found
}

var issuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}

// problems are what a relying party objects to.
type problems []string

// unless takes down a problem where something that must hold does not.
func (p *problems) unless(holds bool, format string, args ...any) {
	if !holds {
		*p = append(*p, fmt.Sprintf(format, args...))
	}
}

func (p *problems) failed(err error) bool {
	p.unless(err == nil, "%v", err)
	return err != nil
}

func relied(artefact Artefact, der []byte) problems {
	switch artefact.Kind {
	case "certificate":
		return ofCertificate(artefact, der)
	case "crl":
		return ofList(artefact, der)
	default:
		return ofAnswer(artefact, der)
	}
}

func ofCertificate(artefact Artefact, der []byte) (found problems) {
	certificate, err := x509.ParseCertificate(der)
	if found.failed(err) {
		return
	}
	unhandled := certificate.UnhandledCriticalExtensions
	found.unless(len(unhandled) == 0, "unhandled critical extensions: %v", unhandled)
	if artefact.Issuer == "" {
		found.failed(certificate.CheckSignatureFrom(certificate))
		return
	}
	found.failed(certificate.CheckSignatureFrom(read(artefact.Issuer)))
	options := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	options.Roots.AddCert(read(artefact.Root))
	if artefact.Chain != "" {
		options.Intermediates.AppendCertsFromPEM(text(artefact.Chain))
	}
	_, err = certificate.Verify(options)
	found.failed(err)
	return
}

func ofList(artefact Artefact, der []byte) (found problems) {
	list, err := x509.ParseRevocationList(der)
	if found.failed(err) {
		return
	}
	issuer, now := read(artefact.Issuer), time.Now()
	found.failed(list.CheckSignatureFrom(issuer))
	found.unless(bytes.Equal(list.RawIssuer, issuer.RawSubject), "another issuer name than the CA's")
	found.unless(bytes.Equal(list.AuthorityKeyId, issuer.SubjectKeyId), "another key identifier than the CA's")
	found.unless(list.Number != nil && list.Number.Sign() > 0, "CRL number %v", list.Number)
	found.unless(!list.ThisUpdate.After(now) && list.NextUpdate.After(now), "from %v to %v", list.ThisUpdate, list.NextUpdate)
	partition := false
	for _, extension := range list.Extensions {
		if extension.Id.Equal(issuingDistributionPoint) {
			partition = extension.Critical && artefact.Point != "" && bytes.HasSuffix(extension.Value, []byte(artefact.Point))
			found.unless(partition, "issuingDistributionPoint %x, expected %q", extension.Value, artefact.Point)
		}
	}
	found.unless(partition || artefact.Point == "", "is no partition for %s", artefact.Point)
	entries := list.RevokedCertificateEntries
	found.unless(len(entries) == len(artefact.Revoked), "%d entries, %d expected", len(entries), len(artefact.Revoked))
	for _, entry := range entries {
		reason, listed := artefact.Revoked[entry.SerialNumber.Text(16)]
		found.unless(listed, "entry %x is not expected", entry.SerialNumber)
		found.unless(entry.ReasonCode == reason, "entry %x has reason %d, not %d", entry.SerialNumber, entry.ReasonCode, reason)
		found.unless(!entry.RevocationTime.After(list.ThisUpdate), "entry %x is later than thisUpdate", entry.SerialNumber)
	}
	return
}

func ofAnswer(artefact Artefact, der []byte) (found problems) {
	var certificate *x509.Certificate
	if artefact.Certificate != "" {
		certificate = read(artefact.Certificate)
	}
	answer, err := ocsp.ParseResponseForCert(der, certificate, read(artefact.Issuer))
	if found.failed(err) {
		return
	}
	serial, now := answer.SerialNumber.Text(16), time.Now()
	status := map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}[answer.Status]
	found.unless(status == artefact.Status, "%s", status)
	found.unless(answer.RevocationReason == artefact.Reason, "reason %d", answer.RevocationReason)
	found.unless(serial == artefact.Serial, "serial %s", serial)
	found.unless(answer.IssuerHash.String() == artefact.Hash, "CertID with %v", answer.IssuerHash)
	found.unless(!answer.ThisUpdate.After(now) && answer.NextUpdate.After(now), "from %v to %v", answer.ThisUpdate, answer.NextUpdate)
	found.unless(!answer.ProducedAt.After(now), "produced at %v", answer.ProducedAt)
	found.unless(!answer.RevokedAt.After(answer.ThisUpdate), "revoked at %v, later than thisUpdate", answer.RevokedAt)
	return
}

func text(path string) []byte {
	content, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	return content
}

// read gives the first certificate of a PEM file.
func read(path string) *x509.Certificate {
	block, _ := pem.Decode(text(path))
	if block == nil {
		log.Fatalf("%s: no PEM", path)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		log.Fatalf("%s: %v", path, err)
	}
	return certificate
}

// Reads a manifest of artefacts (JSON) from standard input and looks at each one twice: with the RFC lints of zlint, and
// with Go's own crypto/x509 and x/crypto/ocsp as a relying party would. Prints a finding a line (JSON), then the count.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"math/big"
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

	Revoked map[string]int // crl: serial in hex to reason code, of every entry

	Certificate string // ocsp: asked about; empty where only the serial is known
	Serial      string // ocsp: in hex
	Status      string // ocsp: good, revoked, unknown
	Reason      int    // ocsp: reason code
	Hash        string // ocsp: SHA-1, SHA-256
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
		if err := relied(artefact, der); err != nil {
			out.Encode(finding{artefact.Name, "go", artefact.Kind, err.Error()})
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

func relied(artefact Artefact, der []byte) error {
	switch artefact.Kind {
	case "certificate":
		return certificateHolds(artefact, der)
	case "crl":
		return listHolds(artefact, der)
	default:
		return answerHolds(artefact, der)
	}
}

func certificateHolds(artefact Artefact, der []byte) error {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	if len(certificate.UnhandledCriticalExtensions) > 0 {
		return fmt.Errorf("unhandled critical extensions: %v", certificate.UnhandledCriticalExtensions)
	}
	if artefact.Issuer == "" {
		return certificate.CheckSignatureFrom(certificate)
	}
	if err := certificate.CheckSignatureFrom(read(artefact.Issuer)); err != nil {
		return err
	}
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
	return err
}

func listHolds(artefact Artefact, der []byte) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	issuer := read(artefact.Issuer)
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return err
	}
	switch {
	case !bytes.Equal(list.RawIssuer, issuer.RawSubject):
		return errors.New("another issuer name than the CA's")
	case !bytes.Equal(list.AuthorityKeyId, issuer.SubjectKeyId):
		return errors.New("another authority key identifier than the CA's")
	case list.Number == nil || list.Number.Sign() <= 0:
		return fmt.Errorf("CRL number %v", list.Number)
	case list.ThisUpdate.After(time.Now()) || !list.NextUpdate.After(time.Now()):
		return fmt.Errorf("valid from %v to %v", list.ThisUpdate, list.NextUpdate)
	case len(list.RevokedCertificateEntries) != len(artefact.Revoked):
		return fmt.Errorf("%d entries, %d expected", len(list.RevokedCertificateEntries), len(artefact.Revoked))
	}
	for _, entry := range list.RevokedCertificateEntries {
		reason, known := artefact.Revoked[entry.SerialNumber.Text(16)]
		if !known || entry.ReasonCode != reason {
			return fmt.Errorf("entry %x with reason %d, expected %d (%v)", entry.SerialNumber, entry.ReasonCode, reason, known)
		}
		if entry.RevocationTime.After(list.ThisUpdate) {
			return fmt.Errorf("entry %x is later than thisUpdate", entry.SerialNumber)
		}
	}
	return nil
}

func answerHolds(artefact Artefact, der []byte) error {
	var certificate *x509.Certificate
	if artefact.Certificate != "" {
		certificate = read(artefact.Certificate)
	}
	answer, err := ocsp.ParseResponseForCert(der, certificate, read(artefact.Issuer))
	if err != nil {
		return err
	}
	serial, _ := new(big.Int).SetString(artefact.Serial, 16)
	statuses := map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}
	now := time.Now()
	switch {
	case statuses[answer.Status] != artefact.Status || answer.RevocationReason != artefact.Reason:
		return fmt.Errorf("%s for reason %d", statuses[answer.Status], answer.RevocationReason)
	case answer.SerialNumber.Cmp(serial) != 0:
		return fmt.Errorf("about serial %x", answer.SerialNumber)
	case answer.IssuerHash.String() != artefact.Hash:
		return fmt.Errorf("CertID with %v", answer.IssuerHash)
	case answer.ThisUpdate.After(now) || !answer.NextUpdate.After(now) || answer.ProducedAt.After(now):
		return fmt.Errorf("valid from %v to %v, produced at %v", answer.ThisUpdate, answer.NextUpdate, answer.ProducedAt)
	case answer.Status == ocsp.Revoked && answer.RevokedAt.After(answer.ThisUpdate):
		return fmt.Errorf("revoked at %v, later than thisUpdate", answer.RevokedAt)
	}
	return nil
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

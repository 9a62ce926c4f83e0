"""Reads the manifest of artefacts from standard input, lints each with pkilint's RFC validators, prints a finding a line."""

import json
import sys

from pkilint import loader, pkix
from pkilint.bin import lint_pkix_signer_signee_cert_chain as pair
from pkilint.pkix import certificate, crl, extension, name, ocsp
from pkilint.validation import ValidationFindingSeverity as Severity

names, extensions = name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS
decoders = [pkix.create_attribute_decoder(names), pkix.create_extension_decoder(extensions)]

certificates = loader.RFC5280CertificateDocumentLoader()
lists = loader.RFC5280CertificateListDocumentLoader()
answers = loader.RFC6960OCSPResponseDocumentLoader()

certificate_validator = certificate.create_pkix_certificate_validator_container(
    certificate.create_decoding_validators(names, extensions),
    [
        certificate.create_issuer_validator_container([]),
        certificate.create_validity_validator_container(),
        certificate.create_subject_validator_container([]),
        certificate.create_extensions_validator_container([]),
        certificate.create_spki_validator_container([]),
    ],
)
list_validator = crl.create_pkix_crl_validator_container(
    list(decoders),
    [
        crl.create_issuer_validator_container([]),
        crl.create_validity_validator_container([]),
        crl.create_extensions_validator_container([]),
    ],
)
answer_validator = ocsp.create_pkix_ocsp_response_validator_container([ocsp.create_response_decoder(), *decoders], [])
pair_decoder = pair.create_decoder_validation_container()
issuer_validator = pair.create_issuer_validation_container()
subject_validator = pair.create_subject_validation_container()


def with_issuer(artefact, der):
    """A certificate together with the one that signed it: names, key identifiers, policies, signature."""
    together = {}
    with open(artefact["Issuer"], encoding="ascii") as file:
        together["issuer"] = certificates.load_pem_document(file.read(), "issuer", "issuer", together)
    together["subject"] = certificates.load_der_document(der, "subject", "subject", together)
    issuer, subject = together["issuer"].root, together["subject"].root
    yield from pair_decoder.validate(issuer)
    yield from pair_decoder.validate(subject)
    yield from issuer_validator.validate(issuer)
    yield from subject_validator.validate(subject)


def results(artefact, der):
    if artefact["Kind"] == "certificate":
        yield from certificate_validator.validate(certificates.load_der_document(der).root)
        if artefact["Issuer"]:
            yield from with_issuer(artefact, der)
    elif artefact["Kind"] == "crl":
        yield from list_validator.validate(lists.load_der_document(der).root)
    else:
        yield from answer_validator.validate(answers.load_der_document(der).root)


artefacts = json.load(sys.stdin)
for artefact in artefacts:
    with open(artefact["File"], "rb") as file:
        der = file.read()

    def tell(code, message):
        print(json.dumps({"artefact": artefact["Name"], "checker": "pkilint", "code": code, "message": message}))

    try:
        for result in results(artefact, der):
            for found in result.finding_descriptions:
                if found.finding.severity <= Severity.NOTICE:
                    where = f"{found.finding.severity.name} at {result.node.path}: {found.message}"
                    tell(found.finding.code, where)
    except ValueError as error:
        tell("parse", str(error))
print(json.dumps({"checked": len(artefacts)}))

/** An error in the sender's octets or names. `code` is stable; the message names the field and the fault. */
export class PkiError extends Error {
  readonly code: string = "pki_invalid";
}

/** Octets that are not strict DER of the expected structure. */
export class DerError extends PkiError {
  override readonly code: string = "der_invalid";
}

/** Text that is invalid in its encoding (hex, base64, PEM). */
export class EncodingError extends PkiError {
  override readonly code: string = "invalid_encoding";
}

/** A key or signature algorithm that is not supported here, however strong. */
export class UnsupportedError extends PkiError {
  override readonly code: string = "unsupported_algorithm";
}

/** A key that must not be certified: too short, badly generated or not on its curve. */
export class WeakKeyError extends PkiError {
  override readonly code: string = "weak_key";
}

/** A subject attribute or subject alternative name that is invalid for its type. */
export class NameError extends PkiError {
  override readonly code: string = "invalid_name";
}

/** Well-formed DER that is not a certificate of RFC 5280. */
export class CertificateError extends PkiError {
  override readonly code: string = "certificate_invalid";
}

/** Well-formed DER that is not a certification request of RFC 2986. */
export class CsrError extends PkiError {
  override readonly code: string = "csr_invalid";
}

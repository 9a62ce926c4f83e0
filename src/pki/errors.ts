/** An error that the sender of the octets or names caused. `code` is stable; the message says what is wrong with what. */
export class PkiError extends Error {
  readonly code: string = "pki_invalid";
}

/** Octets that are not the strict DER that was expected. */
export class DerError extends PkiError {
  override readonly code: string = "der_invalid";
}

/** Text that is not what its encoding allows (hex, base64, PEM). */
export class EncodingError extends PkiError {
  override readonly code: string = "invalid_encoding";
}

/** A key or signature algorithm that is not offered here, however strong. */
export class UnsupportedError extends PkiError {
  override readonly code: string = "unsupported_algorithm";
}

/** A key that must not be certified: too short, badly made or on no curve. */
export class WeakKeyError extends PkiError {
  override readonly code: string = "weak_key";
}

/** A subject attribute or subject alternative name that is not what its type allows. */
export class NameError extends PkiError {
  override readonly code: string = "invalid_name";
}

/** Well-formed DER that is no certificate of RFC 5280. */
export class CertificateError extends PkiError {
  override readonly code: string = "certificate_invalid";
}

/** Well-formed DER that is no certification request of RFC 2986. */
export class CsrError extends PkiError {
  override readonly code: string = "csr_invalid";
}

/** Everything about certificates that the wings use. */
export {
  buildOcspResponderCertificate,
  buildRootCertificate,
  buildSubordinateCertificate,
  buildSubordinateRequest,
  type OcspResponderSpec,
  type RootSpec,
  type SubordinateSpec,
} from "./ca-certificates.ts";
export { CertificateError } from "./errors.ts";
export { encodeDistributionPointName, type KeyUsage } from "./extensions.ts";
export {
  assembleCertificate,
  buildTbsCertificate,
  compileIssuerTemplate,
  type IssuerTemplate,
  type IssuerTemplateOptions,
  type Leaf,
  leafKeyUsage,
  randomSerial,
  SERIAL_OCTETS,
} from "./issue.ts";
export { type Certificate, parseCertificate, verifyIssued } from "./parse-certificate.ts";

/** Everything about certificates that the wings use. */
export {
  buildOcspResponderCertificate,
  buildRootCertificate,
  buildSubordinateCertificate,
  buildSubordinateRequest,
  type RootSpec,
} from "./ca-certificates.ts";
export {
  assembleCertificate,
  buildTbsCertificate,
  compileIssuerTemplate,
  type IssuerTemplate,
  type Leaf,
  leafKeyUsage,
  randomSerial,
} from "./issue.ts";
export { type Certificate, parseCertificate, verifyIssued } from "./parse-certificate.ts";

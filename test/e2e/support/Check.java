import java.io.FileInputStream;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.PKIXRevocationChecker.Option;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/** Check ROOT.pem CHAIN.pem ocsp|crl: validates the path with revocation and no fallback, and prints the verdict. */
public class Check {
  public static void main(String[] args) throws Exception {
    CertificateFactory factory = CertificateFactory.getInstance("X.509");
    X509Certificate root;
    List<Certificate> chain = new ArrayList<>();
    try (FileInputStream in = new FileInputStream(args[0])) {
      root = (X509Certificate) factory.generateCertificate(in);
    }
    try (FileInputStream in = new FileInputStream(args[1])) {
      for (Certificate c : factory.generateCertificates(in)) if (!c.equals(root)) chain.add(c);
    }
    CertPathValidator validator = CertPathValidator.getInstance("PKIX");
    PKIXRevocationChecker revocation = (PKIXRevocationChecker) validator.getRevocationChecker();
    EnumSet<Option> options = EnumSet.of(Option.NO_FALLBACK);
    if (args[2].equals("crl")) options.add(Option.PREFER_CRLS);
    revocation.setOptions(options);
    PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
    parameters.addCertPathChecker(revocation);
    try {
      validator.validate(factory.generateCertPath(chain), parameters);
      System.out.println("valid");
    } catch (CertPathValidatorException e) {
      System.out.println("invalid " + e.getReason() + ": " + e.getMessage());
    }
  }
}

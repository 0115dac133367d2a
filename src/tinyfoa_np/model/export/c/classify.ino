// @what@: copy the library's directory into the folder "libraries" of your sketchbook.
#include <tinyfoa_classify.h>

const float THRESHOLD = 0.0f;  // answers whose margin is smaller are rejected

tinyfoa_value sample[TINYFOA_INPUTS];
float scores[TINYFOA_CLASSES];

void measure() {
  for (int i = 0; i < TINYFOA_INPUTS; i++) sample[i] = (tinyfoa_value)analogRead(A0);  // your sensor
}

void setup() { Serial.begin(115200); }

void loop() {
  measure();
  int answer = tinyfoa_classify(sample, scores);
  if (tinyfoa_margin(scores) < THRESHOLD) {
    Serial.println("not certain");
  } else {
    Serial.println(tinyfoa_labels[answer]);
  }
  delay(1000);
}

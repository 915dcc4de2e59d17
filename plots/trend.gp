# A kernel's time from revision to revision. Blocks: points; levels between changes. CHANGE, CHANGEAT: labels and places.
set xlabel 'Revision, oldest first' textcolor rgb INK
set ylabel 'Median time (µs)' textcolor rgb INK
set xrange [0.5:POINTSN+0.5]
set yrange [YLOW:YHIGH]
do for [i=1:NCHANGES] {
    set arrow 10+i from CHANGEAT[i], graph 0 to CHANGEAT[i], graph 0.86 nohead linecolor rgb INK dashtype 2
    if (CHANGEAT[i] > POINTSN / 3.0) {
        set label 10+i CHANGE[i] at CHANGEAT[i], graph (0.88 + 0.06 * (i % 2)) right offset -0.3,0 textcolor rgb INK
    } else {
        set label 10+i CHANGE[i] at CHANGEAT[i], graph (0.88 + 0.06 * (i % 2)) left offset 0.3,0 textcolor rgb INK
    }
}
plot DATA index 1 using 1:2 with lines linecolor rgb '#D55E00' linewidth 2 notitle, \
     DATA index 0 using 1:2 with points pointtype 7 pointsize 0.9*POINTS linecolor rgb '#0072B2' notitle
